// Package eventstore keeps an append-only event log in PostgreSQL: streams with optimistic concurrency, one global order
// that readers can follow without ever skipping an event, and monthly partitions.
//
// A [Store] appends events to streams ([Store.Append]), reads a stream ([Store.Stream], [Store.Backward]) or the log
// ([Store.All], [Store.Page]), and waits for more ([Store.Follow]). [Store.WithTx] does the same inside a caller's
// transaction. A [Codec] turns payloads into JSON and back, through upcasters for old schema versions. The package
// focusgroup has the events of focus-group discussions; eventstoretest gives tests a log of their own.
//
// # Guarantees
//
// Each number is cited by the tests that prove it.
//
//  1. Versions: the events of a stream have the versions 1, 2, 3 … without holes, and no version twice, however many
//     processes append. An append that expects another version writes nothing and says where the stream is.
//  2. All or nothing: the events of an append commit together, and with the caller's own rows inside [Store.WithTx].
//  3. No skip: a reader of the log that goes on after the last position it has read sees every committed event exactly
//     once, in the same order live and in a rerun, per stream in version order; whatever commits late, rolls back,
//     or is killed.
//  4. No stranger in the way: a transaction that does not append, however long it is open, delays no reader and no writer.
//  5. Time: recorded_at never falls within a stream, is one for an append, and is the database's. Imports keep the times
//     that they are given.
//  6. Bytes: a body is kept as it was written. The database refuses UPDATE, DELETE and TRUNCATE of events.
//  7. Whole streams: a stream is read up to its head or the error says what is missing; never shorter. Months that package partition
//     has archived are read through [Config.Cold]; without it the error is [ErrArchived].
//  8. Refusal first: what breaks a limit is refused before the database is asked, by event and field, and nothing is
//     written.
//  9. Durable: what was acknowledged survives a crash of the server (with its default synchronous_commit).
//  10. Rewound logs: a [Cursor] that has seen what the log has lost is refused with [ErrLogRewound].
//  11. Repeatable: an append that is repeated with the same event ids, in the same order, returns the first one's receipt and
//     writes nothing, in the next month too (for ids of version 7 whose clock is right to a day, and for all others), for
//     as long as the stream's months are online. An outcome that is unknown is one repetition away.
//  12. Own verdicts: appends that run at once may share a statement and a commit, never a verdict, an error, a lock's wait
//     or a cancellation.
//
// # The append
//
// One function in the database, one round trip, one commit:
//
//	1 head         UPDATE streams … WHERE version = expected   conflict, or repeated ──► answer, nothing written
//	2 recorded_at  greatest(clock, the head's)                 head too far ahead ──► answer
//	3 fence        L = last(sequence); shared advisory lock L  once a transaction
//	4 month        look it up                                  missing or closed ──► answer, head put back
//	5 positions    nextval for each event, all above L
//	6 insert       into the month's leaf
//
// A missing month is then made in a short transaction of its own, beside a caller's if need be (a store without a pool
// makes it inside the caller's, under a savepoint), and the append repeated.
//
// [Store.AppendMany] does the same for each of its streams, in the order of their ids, at one time, in a subtransaction that
// a refusal rolls back.
//
// # Appends at once
//
// Concurrent calls of [Store.Append] in one process share statements and commits. There are two lanes:
//
//	caller ──► a lane is free ──► goes by itself, in its own goroutine ──► leaves the lane to those who wait
//	      └──► none is ──► waits ──► one of a batch: one statement for up to 256 streams ──► its own verdict
//	                            └──► alone (its head is held or not where it was expected; the batch failed)
//
// Nothing runs while nobody appends, and nobody waits for a timer: a batch is what came while the lanes were busy. Failure
// cases:
//
//   - A head is held by somebody else: the batch passes over it (SKIP LOCKED), and its caller waits for it alone. A lane whose
//     append waits for a lock is given back after 50 ms.
//   - The statement fails (an id that is taken, a deadlock, a lock timeout): nothing of it is written, each caller goes
//     alone, and an error reaches its owner only.
//   - The connection is lost: each caller repeats its append alone, by its ids; what the lost statement wrote is found.
//   - A caller's context ends: before its batch was sent, nothing is written; afterwards the batch goes on, and the error is
//     [ErrOutcomeUnknown].
//   - Two appends of one process to one stream: the second waits for the first.
//
// # The same append again
//
// Exactly N and no stream: if the compare-and-set fails, the ids at N+1 … are compared. Exists and any: the unique ids of the
// month's leaf refuse it, and the ids are looked up in the stream; the months before are asked first if an id may be as old
// as that. In a caller's transaction, which a refusal by the leaf would abort, the stream is asked first.
//
// # The settled position
//
// Positions come from a sequence before the commit, so commits land out of order, and a reader that trusts "position >
// cursor" loses the late ones. The fence bounds readers instead of serialising writers:
//
//	writer                                   reader
//	L := last(seq)                           1  H := last(seq)
//	lock shared L   ── held to the end ──►   2  fences in flight; S := min(H, every L)
//	p := nextval(seq)         (p > L)        3  new snapshot: events with position <= S
//	insert p … commit, lock released
//
// An event at p <= S took its number before 1, so its fence before 1. Was the fence still held at 2, then L < p bounds S
// below p. Was it not, the transaction had ended, and PostgreSQL makes a commit visible before it releases the locks, so
// 3 sees it. Who fences after 2 takes a p > H. The three are separate statements on purpose: one statement, or a CTE,
// has one snapshot, and skips.
//
// Failure cases:
//
//   - The writer dies: its locks go with it, its positions are never used; readers pass over the hole.
//   - A savepoint is rolled back: the lock taken inside it goes with it, and so does the transaction-local setting that
//     says the fence is up; the next append of the transaction takes a new one. The positions of the rolled-back
//     part are never used again.
//   - A slow appender holds readers back at its L, never writers. [Health] shows it as Last - Settled.
//   - The sequence is altered (CACHE, setval, RESTART): step 5 finds a position that is not above the fence and
//     fails the append with [ErrSequence]; [Store.CheckSchema] finds it at start-up.
//   - last(seq) is read with pg_sequence_last_value, under the buffer's lock. SELECT last_value can see the number that
//     nextval writes to the WAL, up to 32 ahead of the true one: a reader would settle too far.
//   - REPEATABLE READ, SERIALIZABLE and standbys cannot see fences of now with a snapshot of then. There S is the row
//     that [Store.Settle] stored, read in the same snapshot. (A session whose default isolation is stricter settles in a
//     READ COMMITTED transaction of its own.)
//   - The server crashes: the sequence can fall back behind numbers that only rolled-back transactions took. So no reader
//     keeps S: it reads up to the last committed event below S and goes on from there. That event's commit has
//     flushed the sequence, which therefore never falls below it.
//   - synchronous_commit = off, or failover to an asynchronous standby: commits themselves can be lost, and cursors kept
//     elsewhere have seen them. [Store.Resume] notices ([ErrLogRewound]); it cannot bring them back.
package eventstore
