package projection

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// CatchUp runs the projections until each has done what the log held when it was called, and ends: for programs that run now and
// then, and for tests. Others may run the same projections meanwhile. What is parked is not done: see [Runner.Parked]. Errors are
// those of [Runner.Run] and of [Runner.WaitFor], and match [eventstore.ErrArchived] where a projection is built from months that were
// archived and the store has no Config.Cold; ctx's, if it ends before.
func (r *Runner) CatchUp(ctx context.Context) error {
	if err := r.Migrate(ctx); err != nil {
		return err
	}
	settled, err := r.store.Settled(ctx)
	if err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx) // an error of Run ends the waiting
	running, stop := context.WithCancel(inner)
	defer stop()
	once := *r
	once.catchingUp = true
	group.Go(func() error { return once.Run(running) })
	group.Go(func() error {
		defer stop()
		for _, p := range r.projections {
			if err := r.WaitFor(inner, p.spec.Name, settled); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}
