package snapshot

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
)

// Set is the streams of a project, of a category, or of a category in a project: {Project: "spring", Category: "discussion"}.
type Set struct {
	Project  string
	Category string
}

const (
	setPage = 200 // streams whose snapshots are read at a time
	setLoad = 4   // streams that are read at once
)

// AsOfSet yields the states of all streams of a set, in the order of their ids, at one point of the past, or, for the zero At,
// at one point now: what one stream shows, the others have been shown up to the same position. Streams that had not begun
// are left out. At.Version is refused, as each stream has versions of its own. It uses up to four connections at a time, and
// none while the loop's body runs. An error comes last and once; it is that of [Loader.AsOf].
func (l *Loader[S]) AsOfSet(ctx context.Context, set Set, at At) iter.Seq2[Loaded[S], error] {
	return func(yield func(Loaded[S], error) bool) {
		fail := func(err error) { yield(Loaded[S]{}, fmt.Errorf("the states of %+v as of %+v: %w", set, at, err)) }
		b, err := l.resolveSet(ctx, set, at)
		if err != nil {
			fail(err)
			return
		}
		for after := ""; ; {
			ids, err := l.streams(ctx, set, after)
			if err != nil {
				fail(err)
				return
			}
			states, err := l.loadAll(ctx, ids, b)
			if err != nil {
				fail(err)
				return
			}
			for _, state := range states {
				if state.Version > 0 && !yield(state, nil) {
					return
				}
			}
			if len(ids) < setPage {
				return
			}
			after = ids[len(ids)-1]
		}
	}
}

func (l *Loader[S]) resolveSet(ctx context.Context, set Set, at At) (bounds, error) {
	refuse := func(field, reason string) (bounds, error) {
		return bounds{}, &eventstore.InvalidError{Index: -1, Field: field, Reason: reason}
	}
	switch {
	case set == Set{}:
		return refuse("Set", "names neither a project nor a category")
	case strings.Contains(set.Category, "-"):
		return refuse("Set.Category", fmt.Sprintf("is %q, which no stream has", set.Category))
	case at.Version != 0:
		return refuse("At.Version", "is that of one stream")
	}
	b, err := l.resolve(ctx, at)
	if err != nil || at.Position > 0 || !at.Recorded.IsZero() {
		return b, err
	}
	b.position, err = l.store.Settled(ctx)
	return b, err
}

func (l *Loader[S]) streams(ctx context.Context, set Set, after string) ([]string, error) {
	rows, err := l.store.Pool().Query(ctx, l.sql["streams"], set.Project, set.Category, after, setPage)
	if err != nil {
		return nil, fmt.Errorf("listing streams: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing streams: %w", err)
	}
	return ids, nil
}

// loadAll reads the snapshots of all in one round trip, and what comes after them in one for each stream.
func (l *Loader[S]) loadAll(ctx context.Context, ids []string, b bounds) ([]Loaded[S], error) {
	starts, err := l.newestOf(ctx, ids, b)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(setLoad)
	for i := range starts {
		group.Go(func() error {
			found, err := l.foldOn(ctx, starts[i], b)
			if err != nil {
				return fmt.Errorf("%s: %w", ids[i], err)
			}
			l.leave(ctx, found.StreamID, found.passed)
			starts[i] = found
			return nil
		})
	}
	return starts, group.Wait()
}
