// Package partition runs the life of a log's months: made ahead, sealed when they are over, archived, dropped, and restored.
//
// [Months] does it, by [Months.Run] in a service, or step by step with [Months.Maintain], [Months.Archive] and [Months.Restore]. [Cold], given
// to [eventstore.Config], lets every read go on into archived months. A [Blob] keeps the archives; [Dir] is one in a directory.
//
// # Guarantees
//
// Each number is cited by the tests that prove it.
//
//	M1  Sealed: a sealed month holds all events that were ever acknowledged in it, and no other comes.
//	M2  Nothing unproven goes: a table is dropped only when its archive was read back whole just before, and the table itself, under a
//	    lock, still has the digest of when it was sealed.
//	M3  Nobody is cut off: a month leaves only when every checkpoint is past it, and no event of it is parked, but those that were
//	    released with a reason.
//	M4  Killed anywhere: whatever step a run is killed in, the next run goes on; nothing is lost or doubled, and every read gives what it
//	    gave before.
//	M5  Never silently fewer: a read that reaches an archived month goes on in the archive, with the same events to the byte, or ends
//	    with an error that matches [eventstore.ErrArchived] and names the month.
//
// # The states of a month
//
// The month registry (table months) holds the state, and each step moves it on by a compare-and-set.
//
//	open ──► sealing ──► sealed ──► exported ──► verified ──► detached ──► dropped
//	                                                ▲             │           │
//	                                                └─ restored ◄─┴───────────┘
//
//	open       appends go into it. It is made ahead with CREATE TABLE and ATTACH, beside which appends go on.
//	sealing    marked: an append looks its month up after it has taken its fence, and is refused. The sealer then waits until the
//	           fences are gone that were up when the mark was committed.
//	sealed     the range of positions is a validated constraint (it stops a transaction whose snapshot is older than the mark), the
//	           table is frozen and analysed, and its digest stands in the registry.
//	exported   the objects are written, the manifest last, and the registry holds the manifest's SHA-256.
//	verified   every object was read back: the events have the count and digest that were sealed, the index finds each of them, and the
//	           Parquet has as many rows.
//	detached   readers of positions are sent to the archive, then the table leaves the partitioned one, with DETACH CONCURRENTLY. It
//	           stays, guarded against UPDATE, DELETE and TRUNCATE, for its quarantine.
//	dropped    the table is gone.
//	           Its archive is deleted when it is older than Config.Archived, if that is set; reads then end with an error for good.
//	restored   it is a partition again, from its table in quarantine or from the archive, with the same digest. It stays until
//	           [Months.Archive] is called for it.
//
// A run works on a connection of its own, whose session holds an advisory lock: one process works, the others pass, and who loses
// the lock has lost the connection that it worked with.
//
// # The digest
//
// SHA-256 over the SHA-256s of blocks of 10,000 events in position order, each over the SHA-256s of its events in a binary encoding
// (sql/digest.sql, digest.go). PostgreSQL computes it where the rows are, so that the check before a drop moves none.
//
// # An archive
//
// Objects by month, as a Hive partition, and in parts of up to 100,000 events or 64 MB:
//
//	year=2026/month=01/part-00000.ndjson.zst   the source of truth: zstd frames of up to 1,000 lines each, one event a line
//	year=2026/month=01/part-00000.parquet      the same, for DuckDB, Spark, ClickHouse or Athena
//	year=2026/month=01/part-00000.index.zst    the frames, and the streams in each
//	year=2026/month=01/manifest.json           the parts with their bytes and SHA-256, rows, positions, times, streams, digest
//
// In NDJSON, event_data and metadata are JSON strings that hold the bytes as they were appended. One log writes to one archive.
//
// # Failure cases
//
//   - A run is killed: the state says what was done. An export goes on after its last whole part; a detachment that is half done is
//     ended with FINALIZE; all other steps are repeated from their beginning.
//   - A slow append holds the sealing up for a minute a run, then [NotYetError]; Store.Doctor names it. Nothing else is held up but the
//     sealing of later months.
//   - A transaction that has read the month, or the parent in SQL of its own, stays open: sealing, detaching and attaching ask for their
//     locks for 50 ms at a time, some 120 times, and leave it to the next run.
//   - A transaction's snapshot is older than a drop: its reads of the month are [eventstore.ErrSerialization], and it is repeated. Rows
//     that were restored are frozen, so that older snapshots see them.
//   - A late event, of a clock that is behind or an import of old events, meets [eventstore.ErrMonthClosed] and is not written; in a
//     transaction whose snapshot is older than the mark, [eventstore.ErrSerialization], and repeated it meets the other. Clocks have
//     Config.MaxClockSkew; an import can give it a recorded time of an open month, and keep when it occurred.
//   - A clock jumps ahead: a month is sealed only when it is over by the database's clock and by the program's.
//   - An object is damaged or missing: [DamagedError] names it, and nothing is dropped. While the table is there, delete the month's
//     objects, set its state to sealed, and archive it again (OPERATIONS.md). An export never replaces an object: who has lost the lock
//     without knowing it cannot destroy what another run has verified.
//   - The table does not have its digest any more: [ChangedError]. Somebody got past the triggers; a verified archive has what was sealed.
//   - Another log writes to the same archive: [ErrOtherLog], before anything of it is taken, replaced or deleted.
//   - A projection stands still: months stay verified, and [NotYetError] names it. [Months.Release] lets go of one that was given up.
//   - An append is repeated with the ids of an event in an archived month: it is not recognised (guarantee 11 of package eventstore).
package partition
