// Package snapshot loads the state of a stream from its newest snapshot and the events after it, tells what the state was at
// another time, when a field changed, and what lies between two points.
//
//	loader, err := snapshot.NewLoader(store, fold, snapshot.Config{})
//	now, err := loader.Load(ctx, id)
//	then, err := loader.AsOf(ctx, id, snapshot.At{Recorded: friday})
//
// # Time
//
// A log has two times. RecordedAt is the database's: [At].Recorded asks what was known then, and what was corrected or imported
// later is not in it. OccurredAt is the writer's: [At].Occurred asks what had happened then, as far as it is known now; people
// talk over each other and imports come late, so such a state may leave out an event between two that are in it. Both together
// ask what was known on Friday of what had happened by Thursday. [At].Version and [At].Position are exact places.
//
// # Guarantees
//
//	S1  A snapshot never changes an answer. It is used only with the same stream, fold, fold version and format, only where
//	    its bytes have the digest they were stored with, only where the event it ends with still stands in the stream, and
//	    only while its fold is not in quarantine; the events after it are always read. Anything else is a fold from zero.
//	    Of snapshots that are written at once, the newest stay.
//	S2  A snapshot never gets in the way: it is written after a load, outside any append, and its failure is only logged.
//	S3  What was known at a time ([At].Recorded) never changes: it is what was settled at the first moment after that time,
//	    and moments are kept.
//
// What no check of a snapshot can see is a fold that was changed without a new Version: [Loader.Audit] looks for it.
//
//	  Load                                               AsOf {Recorded: t}
//	   │ newest snapshot of fold, version, format          │ first moment after t: made now if there is none ──► position
//	   │   digest wrong, not JSON ──► deleted, from zero    │ newest snapshot up to it
//	   │ events from the snapshot's own on                 │ events up to it
//	   │   its own is another ──────► deleted, from zero    ▼
//	   ▼                                                 state
//	state ──► snapshots at each Config.Every-th version on the way (in one statement; errors are logged)
//
// # Costs
//
// A load is two round trips: the snapshot, then the events after it, at most Config.Every of them where loads leave snapshots
// behind. A recorded time, an occurred time, and a position that is newer than any asked for before, add one each. The state is
// stored as JSON: one that grows with its stream makes every load longer. A load that leaves snapshots behind waits for them
// to be written, a second at most.
//
// Who asks what was known at a time after the last moment makes a moment: a row that stays, where the log has grown since. That
// needs the right to write, and cannot be done on a standby; times before the last moment can be asked for anywhere.
//
// Package snapshot keeps its tables beside the log's: see [Migrate] and [Grant].
package snapshot
