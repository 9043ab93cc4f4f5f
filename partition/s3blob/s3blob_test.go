package s3blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
	"github.com/sight-platform/hindsight/partition/s3blob"
)

// The contract of partition.Blob, which the directory is held to as well.
func TestItIsABlob(t *testing.T) {
	t.Parallel()
	bucket := shared.newBucket(t)
	dir, err := partition.NewDir(t.TempDir())
	require.NoError(t, err)
	trailing := newClient(t, "s3.test", &minio.Options{Transport: shared.transport(), TrailingHeaders: true})
	for name, blob := range map[string]partition.Blob{
		"a directory":      dir,
		"a bucket":         open(t, shared.client(t), bucket, ""),
		"a folder":         open(t, shared.client(t), shared.newBucket(t), "archives/log"),
		"trailing headers": open(t, trailing, shared.newBucket(t), ""),
		"over TLS":         open(t, proxy{}.client(t, shared), shared.newBucket(t), "x"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, blob)
		})
	}
}

func conform(t *testing.T, blob partition.Blob) {
	t.Helper()
	ctx := t.Context()
	keys, err := blob.List(ctx, "")
	require.NoError(t, err)
	require.Empty(t, keys)
	const key = "year=2026/month=01/part-00000.ndjson.zst"
	_, err = blob.Get(ctx, key)
	require.ErrorIs(t, err, partition.ErrNotFound)
	require.NoError(t, blob.Delete(ctx, key))

	require.NoError(t, blob.Put(ctx, key, []byte("first")))
	require.ErrorIs(t, blob.Put(ctx, key, []byte("first")), partition.ErrExists)
	require.ErrorIs(t, blob.Put(ctx, key, []byte("second")), partition.ErrExists)
	content, err := blob.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, "first", string(content))

	for other, content := range map[string][]byte{
		"year=2026/month=01/manifest.json":      {},
		"year=2026/month=10/part_1-A.parquet":   large(20 << 20),
		"year=2025/month=01/part-00000.parquet": bytes.Repeat([]byte{0, 255, '\r', '\n'}, 1000),
	} {
		require.NoError(t, blob.Put(ctx, other, content))
		require.ErrorIs(t, blob.Put(ctx, other, append(content, 1)), partition.ErrExists, "%d bytes", len(content))
		got, err := blob.Get(ctx, other)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), other)
	}
	for prefix, want := range map[string][]string{
		"year=2026/month=01/":  {"year=2026/month=01/manifest.json", key},
		"year=2026/month=1":    {"year=2026/month=10/part_1-A.parquet"},
		"year=2026/month=01/p": {key},
		"year=2027/":           nil,
		"":                     {"year=2025/month=01/part-00000.parquet", "year=2026/month=01/manifest.json", key, "year=2026/month=10/part_1-A.parquet"},
	} {
		keys, err := blob.List(ctx, prefix)
		require.NoError(t, err)
		require.Equal(t, want, keys, "%q", prefix)
	}

	require.NoError(t, blob.Delete(ctx, key))
	require.NoError(t, blob.Delete(ctx, key))
	_, err = blob.Get(ctx, key)
	require.ErrorIs(t, err, partition.ErrNotFound)
	require.NoError(t, blob.Put(ctx, key, []byte("second")))

	for _, bad := range []string{"", ".", "..", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\xff"} {
		require.Error(t, blob.Put(ctx, bad, nil), "%q", bad)
		_, err := blob.Get(ctx, bad)
		require.Error(t, err, "%q", bad)
		require.NotErrorIs(t, err, partition.ErrNotFound, "%q", bad)
		require.Error(t, blob.Delete(ctx, bad), "%q", bad)
	}
}

// large does not compress, and has no two blocks alike.
func large(n int) []byte {
	content := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // it never fails
	return content
}

// A listing has more than one page, is in order, and ends at its folder.
func TestAListingIsWhole(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	bucket := shared.newBucket(t)
	blob, beside := open(t, shared.client(t), bucket, "log"), open(t, shared.client(t), bucket, "log2")
	const objects = 1100
	var want []string
	var group sync.WaitGroup
	limit := make(chan struct{}, 16)
	for i := range objects {
		key := fmt.Sprintf("year=%d/month=%02d/part-%05d.parquet", 2020+i%5, 1+i%12, i)
		want = append(want, key)
		limit <- struct{}{}
		group.Go(func() {
			defer func() { <-limit }()
			if err := blob.Put(ctx, key, []byte{1}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.NoError(t, beside.Put(ctx, "a", nil))
	_, err := shared.client(t).PutObject(ctx, bucket, "log/year=2020/", bytes.NewReader(nil), 0, minio.PutObjectOptions{})
	require.NoError(t, err, "an empty folder, as a console makes it")
	keys, err := blob.List(ctx, "")
	require.NoError(t, err)
	require.ElementsMatch(t, want, keys)
	require.IsIncreasing(t, keys)
	keys, err = blob.List(ctx, "year=2021/")
	require.NoError(t, err)
	require.Len(t, keys, objects/5)
	keys, err = beside.List(ctx, "")
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, keys)
}

// Of many who put one key at once, one wins, and its content is what stays.
func TestOneOfManyPutsWins(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	bucket := shared.newBucket(t)
	blob := open(t, shared.client(t), bucket, "")
	for round := range 20 {
		key := fmt.Sprint("round-", round)
		results := make([]error, 16)
		var group sync.WaitGroup
		for i := range results {
			group.Go(func() { results[i] = blob.Put(ctx, key, bytes.Repeat([]byte{byte(i)}, 100_000)) })
		}
		group.Wait()
		winner := -1
		for i, err := range results {
			if err == nil {
				require.Equal(t, -1, winner, "two have won")
				winner = i
				continue
			}
			require.ErrorIs(t, err, partition.ErrExists)
		}
		require.NotEqual(t, -1, winner, "nobody has won")
		content, err := blob.Get(ctx, key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(winner)}, 100_000), content))
	}
}

// A store that replaces objects is not opened: one that knows nothing of If-None-Match, and one that does not look at it.
func TestAStoreThatReplacesIsRefused(t *testing.T) {
	t.Parallel()
	careless, err := start("--nometa")
	require.NoError(t, err)
	t.Cleanup(careless.stop)
	strip := func(r *http.Request) { r.Header.Del("If-None-Match") }
	stripping := proxy{request: strip}
	silent := proxy{request: strip, lost: func(r *http.Response) bool {
		return r.Request.Method == http.MethodPut && r.Request.ContentLength == int64(len("second"))
	}}
	for name, at := range map[string]struct {
		client *minio.Client
		server *server
	}{
		"stripped by a proxy": {stripping.client(t, shared), shared}, "and the answer is lost": {silent.client(t, shared), shared},
		"not looked at": {careless.client(t), careless},
	} {
		bucket := at.server.newBucket(t)
		_, err := s3blob.Open(t.Context(), at.client, bucket, "folder")
		require.ErrorIs(t, err, s3blob.ErrNoConditionalWrites, name)
		require.ErrorContains(t, err, bucket)
		for object := range at.server.client(t).ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
			t.Errorf("%s: %s is left (%v)", name, object.Key, object.Err)
		}
	}
}

// What keeps a bucket from being used is said when it is opened, and a bucket that is gone is no missing object.
func TestABucketThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var response minio.ErrorResponse
	_, err := s3blob.Open(ctx, shared.client(t), "nobody-made-this", "")
	require.ErrorAs(t, err, &response)
	require.Equal(t, minio.NoSuchBucket, response.Code)
	require.ErrorContains(t, err, "nobody-made-this")
	require.ErrorContains(t, err, "bucket does not exist")

	bucket := shared.newBucket(t)
	stranger := newClient(t, "s3.test", &minio.Options{Transport: shared.transport(), Creds: credentials.NewStaticV4(access, "not the secret", "")})
	nameless := newClient(t, "s3.test", &minio.Options{Transport: shared.transport(), Creds: credentials.NewStatic("", "", "", credentials.SignatureAnonymous)})
	for code, client := range map[string]*minio.Client{minio.SignatureDoesNotMatch: stranger, minio.AccessDenied: nameless} {
		_, err = s3blob.Open(ctx, client, bucket, "")
		require.ErrorAs(t, err, &response)
		require.Equal(t, code, response.Code)
		require.ErrorContains(t, err, bucket)
	}
	for _, folder := range []string{"/a", "a/", ".", "a//b"} {
		_, err = s3blob.Open(ctx, shared.client(t), bucket, folder)
		require.ErrorIs(t, err, eventstore.ErrInvalid, folder)
	}

	blob := open(t, shared.client(t), bucket, "")
	require.NoError(t, shared.client(t).RemoveBucket(ctx, bucket))
	_, err = blob.Get(ctx, "a")
	require.ErrorAs(t, err, &response)
	require.Equal(t, minio.NoSuchBucket, response.Code)
	require.NotErrorIs(t, err, partition.ErrNotFound)
	require.ErrorAs(t, blob.Put(ctx, "a", nil), &response)
	require.ErrorAs(t, blob.Delete(ctx, "a"), &response)
	_, err = blob.List(ctx, "")
	require.ErrorAs(t, err, &response)
}

// An answer that is lost has the client send an object again, which then is there already: with what was sent, once. Where no answer
// comes at all, Put looks whether it is there.
func TestALostAnswer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	lose := func(status int) bool { return status == http.StatusOK }
	puts := 0
	client := proxy{lost: func(r *http.Response) bool {
		if r.Request.Method != http.MethodPut {
			return false
		}
		puts++
		return lose(r.StatusCode)
	}}.client(t, shared)
	bucket := shared.newBucket(t)
	blob := open(t, client, bucket, "")
	require.Equal(t, 3, puts, "the first answer to the probe is lost, too")
	for key, lost := range map[string]func(int) bool{"the first is lost": lose, "all are lost": func(int) bool { return true }} {
		lose, puts = lost, 0
		content := large(100_000)
		require.ErrorIs(t, blob.Put(ctx, key, content), partition.ErrExists)
		require.Greater(t, puts, 1)
		require.ErrorIs(t, blob.Put(ctx, key, []byte("other")), partition.ErrExists)
		got, err := blob.Get(ctx, key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
	}
}

// An object whose bytes change on their way is not stored, by either of the sums that go with it.
func TestAByteThatFlipsOnTheWay(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for code, leave := range map[string]func(http.Header){
		"BadDigest":                 func(h http.Header) { h.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") },
		"XAmzContentSHA256Mismatch": func(h http.Header) { h.Del("Content-Md5") },
	} {
		flip := false
		client := proxy{request: func(r *http.Request) {
			if flip && r.Method == http.MethodPut {
				r.Body = flipping{r.Body}
				leave(r.Header)
			}
		}}.client(t, shared)
		blob := open(t, client, shared.newBucket(t), "")
		flip = true
		var response minio.ErrorResponse
		require.ErrorAs(t, blob.Put(ctx, "a", large(100_000)), &response)
		require.Equal(t, code, response.Code)
		_, err := blob.Get(ctx, "a")
		require.ErrorIs(t, err, partition.ErrNotFound)
	}
}

// An answer that ends early is an error.
func TestAnAnswerThatIsCutShort(t *testing.T) {
	t.Parallel()
	bucket := shared.newBucket(t)
	blob := open(t, shared.client(t), bucket, "")
	content := large(1 << 20)
	require.NoError(t, blob.Put(t.Context(), "a", content))
	cut := open(t, proxy{lost: func(r *http.Response) bool {
		if r.Request.Method == http.MethodGet && r.ContentLength == int64(len(content)) {
			r.Body = http.NoBody // fewer bytes than the header says: the proxy then ends the connection
		}
		return false
	}}.client(t, shared), bucket, "")
	_, err := cut.Get(t.Context(), "a")
	require.Error(t, err)
	require.NotErrorIs(t, err, partition.ErrNotFound)
}

// roundTrip stands in place of a client's connections.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A conflict with another write is tried again, and not for ever.
func TestAConflictIsTriedAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	conflicts, tries, cancelled := 0, 0, false
	client := newClient(t, "s3.test", &minio.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPut {
			return shared.transport().RoundTrip(r)
		}
		if tries++; tries > conflicts {
			return shared.transport().RoundTrip(r)
		}
		if cancelled {
			cancel()
		}
		answer := httptest.NewRecorder()
		answer.WriteHeader(http.StatusConflict)
		_, err := answer.WriteString(`<Error><Code>ConditionalRequestConflict</Code><Message>a conflict</Message></Error>`)
		return answer.Result(), err
	})})
	blob := open(t, client, shared.newBucket(t), "")
	conflicts, tries = 3, 0
	require.NoError(t, blob.Put(ctx, "a", []byte("x")))
	require.Equal(t, 4, tries)
	content, err := blob.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "x", string(content))

	conflicts, tries = 1000, 0
	err = blob.Put(ctx, "b", []byte("x"))
	require.ErrorContains(t, err, "a conflict")
	require.NotErrorIs(t, err, partition.ErrExists)
	require.Equal(t, 5, tries)

	tries, cancelled = 0, true
	require.ErrorIs(t, blob.Put(ctx, "c", []byte("x")), context.Canceled)
	require.Equal(t, 1, tries)
}

// A call ends when its context does: before it begins, and while the store does not answer.
func TestACancelledContext(t *testing.T) {
	t.Parallel()
	bucket := shared.newBucket(t)
	arrived, end := make(chan struct{}), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-end
	}))
	t.Cleanup(func() {
		close(end)
		silent.Close()
	})
	mute := false
	hanging := newClient(t, "s3.test", &minio.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if mute {
			r.URL.Host = silent.Listener.Addr().String()
			return http.DefaultTransport.RoundTrip(r)
		}
		return shared.transport().RoundTrip(r)
	})})
	blob := open(t, hanging, bucket, "")
	require.NoError(t, blob.Put(t.Context(), "a", []byte("x")))
	mute = true
	for name, call := range map[string]func(context.Context) error{
		"put":    func(ctx context.Context) error { return blob.Put(ctx, "b", large(1<<20)) },
		"get":    func(ctx context.Context) error { _, err := blob.Get(ctx, "a"); return err },
		"delete": func(ctx context.Context) error { return blob.Delete(ctx, "a") },
		"list":   func(ctx context.Context) error { _, err := blob.List(ctx, ""); return err },
		"open":   func(ctx context.Context) error { _, err := s3blob.Open(ctx, hanging, bucket, ""); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		err := call(ctx)
		require.ErrorIs(t, err, context.Canceled, name)
		require.False(t, errors.Is(err, partition.ErrNotFound) || errors.Is(err, partition.ErrExists), name)
		require.ErrorIs(t, call(ctx), context.Canceled, "%s that is cancelled before", name)
	}
	_, err := os.Stat(shared.file(bucket, "a"))
	require.NoError(t, err)
}
