// Package projection builds tables from the log: read models, fact tables, indexes. A [Projection] says which events it wants,
// which tables it owns, and how a batch of events becomes rows; a [Runner] does the rest, in any number of processes.
//
//	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{answers{}}})
//	err = runner.Run(ctx) // until ctx ends
//
// # Guarantees
//
//	P1  Exactly once in effect: a batch's rows and the checkpoint commit in one transaction, which first locks the checkpoint
//	    where it has this worker's epoch and stands where this worker left it (a compare-and-set). A commit whose answer was
//	    lost is found out by it.
//	P2  Order: the events of one key (the stream, by default) are applied in the order of their positions.
//	P3  One writer a shard: whoever takes a shard over raises its epoch; a worker that was paused, cut off or slow cannot
//	    write afterwards, whatever it believes. No clock is compared but the database's, and only to decide who may take over.
//	P4  Nothing is skipped: the log is read up to what is settled (guarantee 3 of package eventstore).
//	P5  An event that fails by itself is parked with its key: later events of the key wait behind it, all others go on.
//	    Nothing that is parked is lost, and what an operator skips stays on record.
//	P6  An inline projection is part of each append: both commit, or neither. It is handed over between runner and appends
//	    while no append is in flight, so no event falls between.
//
// # How a batch is written
//
//	heart beat (lease/8)                     shard's worker
//	────────────────────                     ──────────────
//	lease_shards: I live; renew mine;        adopt: checkpoint.epoch := lease.epoch   (waits for a batch in flight)
//	take free ones up to my share;    ──►    read: the process's feed of the log's end, or by itself when behind
//	give back what is over it                Prepare
//	                                         BEGIN; lock checkpoint WHERE epoch = mine AND position = where I left it
//	                                         Apply; checkpoint.position := end of the batch; COMMIT
//
// Leases stand in a table of their own, so that one is renewed while a batch holds its checkpoint. All statements are
// transactions, so it works behind a pooler in transaction mode.
//
// The tables' owner makes them, by [Runner.Migrate], and gives another role what a worker needs, by [Runner.Grant].
//
// # When things go wrong
//
//	a worker dies                 its shards are taken when their leases end (Config.Lease, 5 s by default)
//	a worker leaves               it gives its shards back; others take them at their next beat (an eighth of a lease)
//	a worker is frozen            its transaction is ended by the server within a lease; thawed, it finds a higher epoch
//	the database restarts         workers go on, with growing pauses; leases may change hands
//	Apply or Prepare fails        passing errors (see [Transient]) are tried again; others halve the batch down to the event
//	                              that fails, which is parked and tried again Config.Retries times
//	a table is locked for long    batches wait half a lease for it and try again; nothing is parked
//	the number of shards changes  processes with the old number get no shards any more
//	too many keys are parked      the projection stops, and Status and WaitFor say why; Resume after mending it
//	a connection is lost          the feed goes on after the event that it read last, if that is still in the log
//	the log is an older copy      Run ends with eventstore.ErrLogRewound
//
// # A new version
//
// Where a projection's code or tables change, raise its Version: the new one is built beside the old one, from the start of the
// log, while the views go on to show the old one.
//
//  1. Run the new version, in processes of its own, beside those that run the old one.
//  2. [Runner.Serve] of the new one, as soon as it is not refused any more as behind: the views show it, all at once.
//  3. Let the old one run on until the new one has proved itself. Going back is Serve of a runner of the old version.
//
// Then stop the old one. A table that is new in a version is shown at once, as it is built.
//
// # Inline or live
//
// A live projection costs appends nothing and lags by milliseconds; [Runner.WaitFor] waits for one's own write. An inline one
// ([Inline]) is never behind, but its time is part of each append, its failure undoes the append, and appends share no
// commits. Choose inline for what must be true at once, such as a uniqueness that a later append relies on. Deploy the hook to
// every process that appends before the first runner: what is appended without it is not seen.
package projection
