package devdb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// poolerPort names the pooler's socket; it is no TCP port.
const poolerPort = 6432

// Pooler is a PgBouncer in transaction mode before a cluster: each transaction of a client runs on whatever server
// connection is free, so that a session keeps nothing from one transaction to the next. It takes any user name, and logs
// in as the cluster's superuser. Its methods may be called from many goroutines.
type Pooler struct {
	dir     string // configuration, log, socket
	dog     *watchdog
	process *os.Process
	exited  chan struct{} // closed when process has ended

	mu     sync.Mutex
	closed bool
}

// StartPooler starts a PgBouncer of this machine before the cluster, with so many connections to it at most, and returns
// when it answers. It has a watchdog of its own, and outlives a crash of the cluster. Of the startup parameters that tests
// send, some that PgBouncer does not keep track of are ignored; the search_path is empty. Where the program is not
// installed the error matches exec.ErrNotFound.
func (c *Cluster) StartPooler(ctx context.Context, poolSize int) (*Pooler, error) {
	p, err := newPooler(c.URL(), poolSize)
	if err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", err)
	}
	if err := p.run(ctx, c.URL()); err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", errors.Join(err, p.Close()))
	}
	return p, nil
}

// newPooler makes the directory with the configuration, sets a watchdog over it, and starts the program.
func newPooler(serverURL string, poolSize int) (*Pooler, error) {
	program, err := findPooler()
	if err != nil {
		return nil, err
	}
	runAs, err := serverAccount() // it refuses to run as root, as PostgreSQL does
	if err != nil {
		return nil, err
	}
	parent := tempDir(runAs)
	if len(parent) > 60 {
		parent = "/tmp" // the socket's address would be too long
	}
	p := &Pooler{dog: &watchdog{}, exited: make(chan struct{})}
	if p.dir, err = makeDir(parent, runAs); err != nil {
		return nil, err
	}
	if err := p.spawn(program, runAs, serverURL, poolSize); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	return p, nil
}

// findPooler returns the program; on Debian it is in a directory that only root's PATH names.
func findPooler() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", fmt.Errorf("pgbouncer: %w; run `bash internal/devdb/setup.sh pgbouncer`", exec.ErrNotFound)
}

func (p *Pooler) spawn(program string, runAs *account, serverURL string, poolSize int) error {
	config, err := p.config(serverURL, poolSize)
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	if runAs != nil {
		if err := os.Chown(file, int(runAs.uid), int(runAs.gid)); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the program has its own copy
	if p.dog, err = startWatchdog(nil, p.dir); err != nil {
		return err
	}
	cmd := exec.Command(program, file)
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.SysProcAttr = detached(runAs)
	if err := cmd.Start(); err != nil {
		p.dog.release()
		return err
	}
	p.process = cmd.Process
	p.dog.process(cmd.Process.Pid)
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		p.dog.process(0)
		close(p.exited)
	}()
	return nil
}

// config is the text of pgbouncer.ini. Round robin: what a session counts on is not there by chance. Of the parameters that
// the tests send at the start of a connection, those that PgBouncer cannot hand on are without effect.
func (p *Pooler) config(serverURL string, poolSize int) (string, error) {
	server, err := pgx.ParseConfig(serverURL)
	if err != nil {
		return "", err
	}
	field := func(name, value string) string {
		if value == "" {
			return "" // it takes no empty ones
		}
		return " " + name + "='" + strings.ReplaceAll(value, "'", "''") + "'"
	}
	return fmt.Sprintf(`[databases]
%s = port=%d%s%s%s%s
[pgbouncer]
listen_addr =
listen_port = %d
unix_socket_dir = %s
auth_type = any
admin_users = postgres
pool_mode = transaction
server_round_robin = 1
server_login_retry = 1
default_pool_size = %d
max_client_conn = 2000
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = search_path, extra_float_digits, default_transaction_isolation
`, server.Database, server.Port, field("host", server.Host), field("user", server.User), field("password", server.Password),
		field("dbname", server.Database), poolerPort, p.dir, poolSize), nil
}

// run waits until the pooler answers, and empties the database's search_path.
func (p *Pooler) run(ctx context.Context, serverURL string) error {
	err := poll(ctx, 10*time.Millisecond, 30*time.Second, func(ctx context.Context) (bool, error) {
		select {
		case <-p.exited:
			return true, errors.New("it ended at once")
		default:
		}
		conn, err := pgx.Connect(ctx, p.consoleURL())
		if err != nil {
			return false, err
		}
		return true, conn.Close(ctx)
	})
	if err != nil {
		text, _ := os.ReadFile(p.log())
		return withLines(fmt.Errorf("wait until it answers: %w", err), text)
	}
	conn, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is at stake
	_, err = conn.Exec(ctx, "ALTER DATABASE "+pgx.Identifier{conn.Config().Database}.Sanitize()+" SET search_path = ''")
	return err
}

// URL is a connection string for pgx: without prepared statements, which would stay behind on another connection.
func (p *Pooler) URL() string { return p.url(databaseName) + "&default_query_exec_mode=exec" }

// consoleURL leads to the console, which takes plain text only.
func (p *Pooler) consoleURL() string {
	return p.url("pgbouncer") + "&default_query_exec_mode=simple_protocol"
}

func (p *Pooler) url(database string) string {
	query := "host=" + strings.ReplaceAll(url.QueryEscape(p.dir), "%2F", "/") + "&port=" + strconv.Itoa(poolerPort)
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: query}).String()
}

func (p *Pooler) log() string { return filepath.Join(p.dir, "log") }

// Transactions returns how many transactions have passed through to the cluster's database.
func (p *Pooler) Transactions(ctx context.Context) (int64, error) {
	conn, err := pgx.Connect(ctx, p.consoleURL())
	if err != nil {
		return 0, fmt.Errorf("ask PgBouncer: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is at stake
	rows, err := conn.Query(ctx, "SHOW STATS_TOTALS")
	if err != nil {
		return 0, fmt.Errorf("ask PgBouncer: %w", err)
	}
	totals, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		return 0, fmt.Errorf("ask PgBouncer: %w", err)
	}
	for _, row := range totals {
		if count, ok := row["xact_count"].(pgtype.Numeric); ok && row["database"] == databaseName {
			value, err := count.Int64Value()
			return value.Int64, err
		}
	}
	return 0, fmt.Errorf("ask PgBouncer: it tells nothing of the transactions of %s: %v", databaseName, totals)
}

// Close stops the pooler and removes what it left. Further calls do nothing.
func (p *Pooler) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var err error
	if killErr := p.process.Kill(); killErr != nil && !errors.Is(killErr, os.ErrProcessDone) {
		err = fmt.Errorf("stop PgBouncer: %w", killErr)
	} else {
		<-p.exited
	}
	err = errors.Join(err, os.RemoveAll(p.dir))
	p.dog.release()
	return err
}
