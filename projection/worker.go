package projection

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
)

// worker works on one shard under one lease. It runs in one goroutine, so what it knows of the shard changes in one place.
type worker struct {
	*Runner
	p     *projection
	lease lease
	feed  *feed

	cancel context.CancelFunc
	once   sync.Once
	ending chan struct{} // closed when it should end after the batch at hand

	stored eventstore.Position // the checkpoint
	cursor eventstore.Position // done so far: stored, or later where nothing had to be written
	size   int                 // events that the next batch may have
	wrote  time.Duration       // of the last transaction
	parked map[string]bool     // keys
	inline bool                // the appends do the work

	handOver time.Time // when to try to make them do it
	patience time.Duration
	due      time.Time // when to look at the parked ones again
	noted    time.Time // when the checkpoint was last moved
}

func newWorker(r *Runner, p *projection, l lease, f *feed, cancel context.CancelFunc) *worker {
	return &worker{
		Runner: r, p: p, lease: l, feed: f, cancel: cancel, ending: make(chan struct{}),
		size: min(firstBatch, r.config.MaxBatch), parked: map[string]bool{},
	}
}

const (
	firstBatch = 200
	// A checkpoint that moves over events of others only is written this often.
	noteEvery = 250 * time.Millisecond
	// lookAtParked is how often parked events are looked at, beside the times they ask for.
	lookAtParked = 500 * time.Millisecond
)

// stop asks the worker to end after the batch at hand; one that takes longer than a lease is cut off.
func (w *worker) stop() {
	w.once.Do(func() {
		close(w.ending)
		time.AfterFunc(w.config.Lease, w.cancel)
	})
}

func (w *worker) stopping() bool {
	select {
	case <-w.ending:
		return true
	default:
		return false
	}
}

// run works until it is stopped, the lease is lost, or ctx ends.
func (w *worker) run(ctx context.Context) error {
	w.tellHolds(true)
	defer w.tellHolds(false)
	pause := newBackoff()
	for adopted := false; !w.stopping(); {
		var err error
		if !adopted {
			before := w.stored
			err = w.adopt(ctx)
			adopted = err == nil
			if adopted && w.stored > before {
				pause.reset()
			}
		}
		if err == nil {
			err = w.step(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			pause.reset()
			continue
		case w.endsWith(err):
			return err
		case errors.Is(err, errLost):
			if !adopted { // somebody else has it
				return err
			}
			adopted = false // or it stands elsewhere than we thought, after a commit whose answer was lost
		default:
			// Where the answer to a commit was lost, the compare-and-set of the checkpoint finds out what became of it.
			w.config.Logger.WarnContext(ctx, "applying events; trying again", "projection", w.p.spec.Name, "shard", w.lease.Shard, "err", err)
		}
		if !pause.wait(ctx, w.ending) {
			return ctx.Err()
		}
	}
	return nil
}

// adopt takes the checkpoint over from whoever had it before: from now on that one can write no more.
func (w *worker) adopt(ctx context.Context) error {
	err := pg.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, w.sql["adopt_checkpoint"], w.p.spec.Name, w.p.spec.Version, w.lease.Shard, w.lease.Epoch, w.p.spec.Shards).Scan((*int64)(&w.stored))
		if errors.Is(err, pgx.ErrNoRows) {
			return errLost
		}
		if err != nil {
			return err
		}
		// In a statement of its own: whoever had the row before may have handed the projection over meanwhile.
		return tx.QueryRow(ctx, w.sql["inline_now"], w.p.spec.Name, w.p.spec.Version).Scan(&w.inline)
	})
	if err != nil {
		return err
	}
	w.cursor = w.stored
	return w.loadParked(ctx)
}

// step does a piece of work, or waits for some.
func (w *worker) step(ctx context.Context) error {
	if w.inline {
		return w.watchInline(ctx)
	}
	if err := w.retryParked(ctx); err != nil {
		return err
	}
	chunks, behind, changed := w.feed.after(w.cursor)
	if behind {
		return w.catchUp(ctx)
	}
	worked := len(chunks) > 0
	for len(chunks) > 0 {
		var chunk eventstore.Chunk
		chunk, chunks = w.joined(chunks)
		if err := w.process(ctx, chunk); err != nil || w.stopping() {
			return err
		}
	}
	if w.p.spec.Inline && len(w.parked) == 0 && !time.Now().Before(w.handOver) {
		err := w.goInline(ctx)
		w.patience = min(2*max(w.patience, handOverEvery), handOverSeldom) // appends wait meanwhile
		w.handOver = time.Now().Add(w.patience)
		switch {
		case err == nil, errors.Is(err, errNotYet), pg.Code(err) == pg.LockNotAvailable:
		default: // it may have been done, if the answer to the commit was lost
			return errors.Join(errLost, err)
		}
	}
	if worked {
		return nil
	}
	return w.wait(ctx, changed)
}

// joined makes the first chunks one, for one transaction.
func (w *worker) joined(chunks []eventstore.Chunk) (first eventstore.Chunk, rest []eventstore.Chunk) {
	if len(chunks) == 1 {
		return chunks[0], nil
	}
	for len(chunks) > 0 && len(first.Events) < w.size {
		first.Events = append(first.Events, chunks[0].Events...)
		first.UpTo = chunks[0].UpTo
		chunks = chunks[1:]
	}
	return first, chunks
}

// wait returns when there may be something to do.
func (w *worker) wait(ctx context.Context, changed <-chan struct{}) error {
	pause := time.Hour
	if len(w.parked) > 0 {
		pause = time.Until(w.due)
	}
	if w.p.spec.Inline && len(w.parked) == 0 {
		pause = min(pause, time.Until(w.handOver))
	}
	if w.cursor > w.stored {
		pause = min(pause, time.Until(w.noted.Add(noteEvery)))
	}
	timer := time.NewTimer(max(pause, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.ending:
	case <-changed:
	case <-timer.C:
		return w.note(ctx)
	}
	return nil
}

// note moves the checkpoint over events that the shard had nothing to do with, now and then.
func (w *worker) note(ctx context.Context) error {
	if w.cursor == w.stored || time.Since(w.noted) < noteEvery {
		return nil
	}
	return w.transaction(ctx, w.cursor, nil)
}

// catchUp reads the log by itself, up to what was settled when it began; the next page is read while one is applied.
func (w *worker) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		chunk eventstore.Chunk
		err   error
	}
	pages := make(chan result, 4)
	go func() {
		defer close(pages)
		for chunk, err := range w.store.Chunks(ctx, w.cursor, w.p.spec.filter()) {
			select {
			case pages <- result{chunk, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var rest eventstore.Chunk // of small pages, to be applied with the next
	for open := true; open; {
		next, more := <-pages
		open = more
		if next.err != nil {
			return next.err
		}
		if more {
			rest.Events = append(rest.Events, next.chunk.Events...)
			rest.UpTo = next.chunk.UpTo
		}
		if rest.UpTo == 0 || more && len(rest.Events) < w.size && len(pages) > 0 {
			continue
		}
		if err := w.process(ctx, rest); err != nil || w.stopping() {
			return err
		}
		rest = eventstore.Chunk{}
	}
	if w.cursor > w.stored {
		if err := w.transaction(ctx, w.cursor, nil); err != nil {
			return err
		}
	}
	w.feed.begin(w.cursor)
	return ctx.Err()
}

const maxBatchBytes = 8 << 20

// process applies what a chunk holds for this shard after the cursor.
func (w *worker) process(ctx context.Context, chunk eventstore.Chunk) error {
	var batch []eventstore.Recorded
	bytes := 0
	for i := range chunk.Events {
		e := &chunk.Events[i]
		if e.Position <= w.cursor || !w.p.spec.wants(e) || w.p.spec.Shards > 1 && w.p.spec.shardOf(w.p.spec.Key(*e)) != w.lease.Shard {
			continue
		}
		if len(batch) >= w.size || len(batch) > 0 && bytes+eventSize(e) > maxBatchBytes {
			if err := w.applyAll(ctx, batch, batch[len(batch)-1].Position); err != nil || w.stopping() {
				return err
			}
			batch, bytes = batch[:0:0], 0
		}
		batch = append(batch, *e)
		bytes += eventSize(e)
	}
	if len(batch) > 0 {
		return w.applyAll(ctx, batch, max(chunk.UpTo, w.cursor))
	}
	w.cursor = max(w.cursor, chunk.UpTo)
	return w.note(ctx)
}

func (w *worker) tellHolds(holds bool) {
	if hook := w.config.Hooks.Shard; hook != nil {
		hook(ShardInfo{Projection: w.p.spec.Name, Version: w.p.spec.Version, Shard: w.lease.Shard, Worker: w.config.Worker, Holds: holds})
	}
}
