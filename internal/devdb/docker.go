package devdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	tcpostgres "github.com/testcontainers/testcontainers-go/modules/postgres"
)

// engine is a Docker engine that answers.
type engine struct {
	api *testcontainers.DockerClient
}

// findEngine finds the engine that testcontainers-go would use. Where only the docker command is installed, it says so
// within milliseconds.
func findEngine(ctx context.Context) (*engine, error) {
	// The library keeps the first answer for good, so a caller's cancellation must not become that answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	api, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, fmt.Errorf("no engine answers: %w", err)
	}
	if _, err := api.Ping(ctx, client.PingOptions{}); err != nil {
		return nil, fmt.Errorf("no engine answers: %w", err)
	}
	return &engine{api: api}, nil
}

// dockerServer is a server in a container.
type dockerServer struct {
	engine    *engine
	image     string
	settings  map[string]string
	container *tcpostgres.PostgresContainer
	dog       *watchdog
}

// docker is the source of servers in containers.
func (e environment) docker(ctx context.Context, settings map[string]string) (server, string, error) {
	const name = "Docker"
	if e.from == fromLocal {
		return nil, "", &absentError{name, fmt.Errorf("%s=%s rules it out", fromVariable, e.from)}
	}
	engine, err := e.engine(ctx)
	if err != nil {
		return nil, "", &absentError{name, err}
	}
	s, err := newDockerServer(engine, e.image, settings)
	if err != nil {
		return nil, "", err
	}
	url, err := s.create(ctx, testcontainers.WithCmd(s.command()...))
	if err != nil {
		return nil, "", &absentError{name, fmt.Errorf("image %s: %w", e.image, errors.Join(err, s.remove()))}
	}
	return s, url, nil
}

// newDockerServer sets a watchdog over a container that is still to be made.
func newDockerServer(engine *engine, image string, settings map[string]string) (*dockerServer, error) {
	dog, err := startWatchdog([]string{"DOCKER_HOST=" + engine.api.DaemonHost()})
	if err != nil {
		return nil, err
	}
	return &dockerServer{engine: engine, image: image, settings: settings, dog: dog}, nil
}

// command starts the server with its settings.
func (s *dockerServer) command() []string {
	arguments := []string{"postgres", "-c", "max_connections=500", "-c", "timezone=UTC", "-c", "log_timezone=UTC"}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		arguments = append(arguments, "-c", name+"="+s.settings[name])
	}
	return arguments
}

// create gets the image, and runs it until the database in it answers.
func (s *dockerServer) create(ctx context.Context, options ...testcontainers.ContainerCustomizer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // a slow line's time for the image
	defer cancel()
	var err error
	s.container, err = tcpostgres.Run(ctx, s.image, append([]testcontainers.ContainerCustomizer{
		testcontainers.WithLogger(log.NewNoopLogger()),
		tcpostgres.WithDatabase(databaseName),
		testcontainers.WithEnv(map[string]string{"POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C.UTF-8"}),
		testcontainers.WithAdditionalLifecycleHooks(testcontainers.ContainerLifecycleHooks{
			PostCreates: []testcontainers.ContainerHook{func(_ context.Context, c testcontainers.Container) error {
				s.dog.container(c.GetContainerID()) // before it starts: we might be killed meanwhile
				return nil
			}},
		}),
	}, options...)...)
	if err != nil {
		return "", err
	}
	return s.await(ctx)
}

// await waits until the server is ready, as seen from within its container, and then until we can reach it: an address
// that leads nowhere is noticed after seconds.
func (s *dockerServer) await(ctx context.Context) (string, error) {
	err := poll(ctx, 250*time.Millisecond, startTimeout, func(ctx context.Context) (bool, error) {
		if err := s.alive(ctx); err != nil {
			return true, err
		}
		// By TCP: the server that initialises the data, before the real one starts, does not listen there.
		status, _, err := s.container.Exec(ctx, []string{"pg_isready", "--host=127.0.0.1"})
		if err == nil && status != 0 && status != 127 { // 127: an image without pg_isready; others: refused, or dying
			err = errors.New("it does not accept connections")
		}
		return err == nil, err
	})
	if err != nil {
		return "", s.withLog(ctx, fmt.Errorf("wait until it is ready: %w", err))
	}
	url, err := s.container.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return "", err
	}
	err = poll(ctx, 10*time.Millisecond, 5*time.Second, func(ctx context.Context) (bool, error) {
		if err := s.alive(ctx); err != nil {
			return true, s.withLog(ctx, err)
		}
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			_ = conn.Close(ctx)
		}
		return err == nil, err
	})
	if err != nil {
		return "", fmt.Errorf("reach the server, which is ready in its container (TESTCONTAINERS_HOST_OVERRIDE may name another host): %w", err)
	}
	return url, nil
}

func (s *dockerServer) alive(ctx context.Context) error {
	state, err := s.container.State(ctx)
	if err != nil {
		return err
	}
	if !state.Running {
		return fmt.Errorf("the container ended at once, with status %d", state.ExitCode)
	}
	return nil
}

// start starts the container again; its port is another one then.
func (s *dockerServer) start(ctx context.Context) (string, error) {
	if err := s.alive(ctx); err == nil {
		return "", errRunning
	}
	if _, err := s.engine.api.ContainerStart(ctx, s.container.GetContainerID(), client.ContainerStartOptions{}); err != nil {
		return "", err
	}
	return s.await(ctx)
}

func (s *dockerServer) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.alive(ctx); err != nil {
		return errors.Join(errNotRunning, err)
	}
	id := s.container.GetContainerID()
	gone := s.engine.api.ContainerWait(ctx, id, client.ContainerWaitOptions{})
	// Not a stop, even with no time to do it in: PostgreSQL would begin to shut down.
	if _, err := s.engine.api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil {
		return err
	}
	select {
	case <-gone.Result:
		return nil
	case err := <-gone.Error:
		return err
	}
}

func (s *dockerServer) remove() error {
	var err error
	if s.container != nil {
		err = testcontainers.TerminateContainer(s.container, testcontainers.StopTimeout(0))
	}
	if err == nil {
		s.dog.container("")
	}
	s.dog.release()
	return err
}

func (s *dockerServer) binDir() string { return "" }

func (s *dockerServer) String() string { return "Docker (" + s.image + ")" }

// withLog adds the last lines of the server's log to an error.
func (s *dockerServer) withLog(ctx context.Context, err error) error {
	logs, logErr := s.container.Logs(ctx)
	if logErr != nil {
		return err
	}
	defer logs.Close() //nolint:errcheck // it is only read
	text, logErr := io.ReadAll(logs)
	if logErr != nil {
		return err
	}
	return withLines(err, text)
}
