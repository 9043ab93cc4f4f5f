package s3blob_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/partition/s3blob"
)

const (
	gateway = "github.com/versity/versitygw/cmd/versitygw"
	release = "v1.8.0"
	access  = "tests"
	secret  = "only-tests"
	region  = "us-east-1"
)

// shared is the server of all tests, each of which has a bucket of its own.
var shared *server //nolint:gochecknoglobals // one server a process

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	runtime.LockOSThread() // Linux ends the server with the thread that has started it
	var err error
	if shared, err = start("--sidecar"); err != nil {
		fmt.Fprintln(os.Stderr, "starting an S3 server:", err)
		return 1
	}
	defer shared.stop()
	return m.Run()
}

// server is an S3 server with buckets in a directory. It listens at a socket there, which no other process can have taken.
type server struct {
	dir     string
	process *exec.Cmd
	ended   chan struct{}
}

// start gives the server the place of its metadata, which not every file system can keep beside a file: "--sidecar" or "--nometa".
func start(metadata string) (s *server, err error) {
	binary, err := build()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hindsight-s3-")
	if err != nil {
		return nil, err
	}
	s = &server{dir: dir, ended: make(chan struct{})}
	arguments := []string{"--quiet", "--access", access, "--secret", secret, "--region", region, "--port", s.socket(), "posix", metadata}
	for _, name := range []string{"metadata", "buckets"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	if metadata == "--sidecar" {
		arguments = append(arguments, filepath.Join(dir, "metadata"))
	}
	said, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, said.Close()) }()
	s.process = exec.Command(binary, append(arguments, filepath.Join(dir, "buckets"))...)
	s.process.Stdout, s.process.Stderr, s.process.SysProcAttr = said, said, diesWithUs()
	if err := s.process.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() {
		_ = s.process.Wait() // it ends by being killed
		close(s.ended)
	}()
	if err := s.answers(); err != nil {
		text, _ := os.ReadFile(said.Name())
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return s, nil
}

func (s *server) socket() string { return filepath.Join(s.dir, "socket") }

func (s *server) answers() error {
	deadline := time.After(30 * time.Second)
	for {
		conn, err := net.Dial("unix", s.socket())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return errors.New("the server has ended")
		case <-deadline:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) stop() {
	_ = s.process.Process.Kill() // it has no children
	<-s.ended
	_ = os.RemoveAll(s.dir)
}

// build installs the server once a release, in the user's cache. It takes a minute or two.
func build() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "hindsight", "versitygw-"+release)
	binary := filepath.Join(folder, "versitygw")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	half, err := os.MkdirTemp(folder, "half-") // another process may do the same
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(half) }()
	install := exec.Command("go", "install", gateway+"@"+release)
	install.Env = append(os.Environ(), "GOBIN="+half, "GOFLAGS=")
	install.SysProcAttr = diesWithUs()
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s@%s: %w\n%s", gateway, release, err, out)
	}
	return binary, os.Rename(filepath.Join(half, "versitygw"), binary)
}

// transport leads to the server, whatever the address.
func (s *server) transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.socket())
	}}
}

func (s *server) client(t testing.TB) *minio.Client {
	t.Helper()
	transport := s.transport()
	t.Cleanup(transport.CloseIdleConnections)
	return newClient(t, "s3.test", &minio.Options{Transport: transport})
}

func newClient(t testing.TB, endpoint string, options *minio.Options) *minio.Client {
	t.Helper()
	options.Region = region
	if options.Creds == nil {
		options.Creds = credentials.NewStaticV4(access, secret, "")
	}
	client, err := minio.New(endpoint, options)
	require.NoError(t, err)
	return client
}

// newBucket makes a bucket, and returns its name.
func (s *server) newBucket(t testing.TB) string {
	t.Helper()
	name := "b" + strings.ReplaceAll(uuid.NewString(), "-", "")
	require.NoError(t, s.client(t).MakeBucket(t.Context(), name, minio.MakeBucketOptions{Region: region}))
	return name
}

// file is where the server keeps an object.
func (s *server) file(bucket, key string) string {
	return filepath.Join(s.dir, "buckets", bucket, filepath.FromSlash(key))
}

func open(t testing.TB, client *minio.Client, bucket, folder string) *s3blob.Bucket {
	t.Helper()
	b, err := s3blob.Open(t.Context(), client, bucket, folder)
	require.NoError(t, err)
	return b
}
