// Package replay plays recorded discussions again: one, or several interleaved by time, at their own pace, faster, or as fast
// as it can, with the state and its changes at each step.
//
//	player, err := replay.Open(ctx, store, replay.Config[*focusgroup.Discussion]{Fold: fold, Speed: 10}, id)
//	err = player.Play(ctx, func(ctx context.Context, step replay.Step[*focusgroup.Discussion]) error { … })
//
// [Player.Play] calls a handler, [Player.Steps] is the same as a loop. [Player.Next], [Player.Back] and the Seek methods go
// elsewhere by hand; playing goes on from there. [Config].Break ends playing at a step that is looked for, and the next Play
// goes on after it. Package replaytest has what tests need.
//
// # Guarantees
//
//	R1  Every event once, in one order: by occurred_at, then by position; within a stream always by version: an event that
//	    occurred before its predecessor in the stream plays at the predecessor's time. The order is the same in each replay.
//	R2  Where the streams stood at [Open], each by itself, is where the player ends; what is appended later is not played.
//	R3  A state is the fold of its stream's events up to the step, whichever way the player went there.
//	R4  Event k is due at start + (t_k - t_0) / speed: what is late does not make the rest late. While it is paused, the time
//	    of the discussion stands still. Nothing but Config.Clock is asked for the time.
//
// # Concurrency
//
// All methods may be called from any goroutine, also from a handler; let one of them play at a time. Each step goes to one
// caller: a Next beside Play takes a step away from it. [Player.Pause] does not wait for a handler that is running, and no
// step begins after it but one that is being read. The player holds no connection while a handler runs; reading ahead (below)
// takes one for each page.
//
// # Costs
//
// Open asks the database twice a stream. A player reads 1,000 events of a stream at a time, and holds those of the streams that
// have begun and not ended where it stands, and 16 bytes for each of its events. Where it plays 4,000 events or more as fast as
// it can, a goroutine reads the log ahead of it instead, in the log's order, for as long as at least half of the log is
// the player's and no more than 10,000 events wait for their time; it ends with the Play.
//
// With a fold a player holds a state a stream, and its JSON for every 100 events; each step encodes the state once. A step
// back reads a page at most, and folds 100 events at most.
package replay
