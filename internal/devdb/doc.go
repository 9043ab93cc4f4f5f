// Package devdb finds or starts a PostgreSQL with pgvector for tests and examples, and leaves nothing of it behind.
//
// # Where the database comes from
//
//	HINDSIGHT_DATABASE_URL ──► Docker engine ──► PostgreSQL on this machine ──► *UnavailableError
//	 the database it names      a container        a throwaway cluster           "run `make setup`"
//
// [Open] takes the first that can be had.
//
//   - HINDSIGHT_DATABASE_URL names a database of yours. It is used as it is, and never stopped. If it does not answer,
//     that is an error: a named database is not silently replaced by another one. It may be behind a pooler in transaction
//     mode; HINDSIGHT_DATABASE_DIRECT_URL then leads past it, for tests about sessions.
//   - A Docker engine runs the image pgvector/pgvector:pg17, or the one that HINDSIGHT_TEST_IMAGE names, through
//     testcontainers-go and its settings. An engine that does not answer, or cannot get the image, is passed over.
//   - PostgreSQL 15 or later on this machine, with pgvector, runs a cluster in a temporary directory, reached by a Unix
//     socket there. The newest version counts. A process of root runs it as the user postgres, else as nobody.
//
// HINDSIGHT_DATABASE_FROM=docker, or =local, allows that source alone, whatever the others have to offer: a run that is
// meant to test with Docker then fails where there is no Docker.
//
// [Shared] is one such database a process. [StartCluster] is a server of its own that can be killed and started again;
// it looks on this machine first, then for Docker, and never at HINDSIGHT_DATABASE_URL. [Cluster.StartStandby] is a
// streaming replica of it, [Cluster.StartPooler] a PgBouncer before it; the command internal/devdb/pgbouncer runs tests there.
//
// # What is left behind
//
// Nothing, however the process ends. Each server has a watchdog: a small shell in a session of its own that reads a pipe
// whose other end only our process holds.
//
//	our process ──pipe──► watchdog (sh)          postgres, or a container
//	    │ ends, in any way                            ▲
//	    └────────► end of file ───────────────────────┘ stops it, removes its directory
//
// # When things fail
//
//   - Our process is killed (SIGKILL, a test timeout, Ctrl-C): the pipe closes, the watchdog cleans up. It and the server
//     are in sessions of their own, so that a Ctrl-C at the terminal reaches neither of them directly.
//   - The watchdog is killed: Close still cleans up. If our process is then killed too, the server stays.
//   - The server dies: connections fail, Close cleans up.
//   - A container's server is ready, but its address leads nowhere (our process is in a container itself, say): Docker is
//     passed over after some seconds; TESTCONTAINERS_HOST_OVERRIDE names the right host.
//   - The server does not start: the error ends with the last lines of its log.
//   - With Docker, the watchdog needs the docker command. Without it, the container of a killed process is left to
//     testcontainers' reaper, and stays where that is switched off (TESTCONTAINERS_RYUK_DISABLED).
//   - The machine stops: a directory hindsight-pg-* stays in the temporary directory.
package devdb
