package devdb

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// The environment variables that decide where a database comes from; the package documentation explains them.
const (
	urlVariable    = "HINDSIGHT_DATABASE_URL"
	directVariable = "HINDSIGHT_DATABASE_DIRECT_URL"
	fromVariable   = "HINDSIGHT_DATABASE_FROM"
	imageVariable  = "HINDSIGHT_TEST_IMAGE"
)

// Values of HINDSIGHT_DATABASE_FROM.
const (
	fromAnywhere = ""
	fromDocker   = "docker"
	fromLocal    = "local"
)

const defaultImage = "pgvector/pgvector:pg17"

// Database is a UTF-8 database in a PostgreSQL that has pgvector, though the extension is not created yet.
type Database struct {
	// URL is a connection string for pgx and for psql.
	URL string
	// DirectURL leads past a pooler that URL leads through, for tests about sessions; else it is the same.
	DirectURL string
	// From says, for people, where the database comes from: "HINDSIGHT_DATABASE_URL",
	// "Docker (pgvector/pgvector:pg17)", "PostgreSQL 15 in /usr/lib/postgresql/15/bin".
	From string

	cluster *Cluster // nil for a database that was there before
}

// Open returns the database that HINDSIGHT_DATABASE_URL names, or else starts a server for a new one. Such a server
// trades durability for speed: it does not survive a crash of the machine. The error is an [*UnavailableError] where
// nothing can be had.
func Open(ctx context.Context) (*Database, error) {
	return environmentOf(os.Getenv).open(ctx)
}

// Close stops the server and removes it with all its data, if [Open] started it. Further calls do nothing.
func (d *Database) Close() error {
	if d.cluster == nil {
		return nil
	}
	return d.cluster.Close()
}

// Shared returns the one database of this process, which the first call opens. Nobody has to close it: it vanishes with
// the process. An error is kept too, unless it came from a context that was done.
func Shared(ctx context.Context) (*Database, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.database == nil && shared.err == nil {
		database, err := Open(ctx)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		shared.database, shared.err = database, err
	}
	return shared.database, shared.err
}

//nolint:gochecknoglobals // one database a process is what Shared is for
var shared struct {
	mu       sync.Mutex
	database *Database
	err      error
}

// environment is what decides where a database comes from. Tests put other answers in.
type environment struct {
	url     string
	direct  string
	from    string
	image   string
	engine  func(context.Context) (*engine, error)
	binDirs func(context.Context) []string
}

func environmentOf(getenv func(string) string) environment {
	e := environment{
		url:     getenv(urlVariable),
		direct:  getenv(directVariable),
		from:    getenv(fromVariable),
		image:   getenv(imageVariable),
		engine:  findEngine,
		binDirs: findBinDirs,
	}
	if e.image == "" {
		e.image = defaultImage
	}
	return e
}

func (e environment) open(ctx context.Context) (*Database, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	if e.url != "" && e.from == fromAnywhere {
		return openURL(ctx, e.url, cmp.Or(e.direct, e.url))
	}
	cluster, err := e.startFirst(ctx, fastSettings(), e.docker, e.local)
	if err != nil {
		return nil, err
	}
	return &Database{URL: cluster.URL(), DirectURL: cluster.URL(), From: cluster.server.String(), cluster: cluster}, nil
}

func (e environment) validate() error {
	switch e.from {
	case fromAnywhere, fromDocker, fromLocal:
		return nil
	default:
		return fmt.Errorf("%s is %q: it may be %s or %s", fromVariable, e.from, fromDocker, fromLocal)
	}
}

// openURL makes sure that the named database answers: a mistyped URL is better told here than by the first test.
func openURL(ctx context.Context, url, direct string) (*Database, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", urlVariable, err)
	}
	_ = conn.Close(ctx)
	return &Database{URL: url, DirectURL: direct, From: urlVariable}, nil
}

// fastSettings keeps synchronous_commit on: without fsync it costs nothing, and it is a setting that Hindsight looks at.
func fastSettings() map[string]string {
	return map[string]string{"fsync": "off", "full_page_writes": "off"}
}
