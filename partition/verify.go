package partition

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/sight-platform/hindsight/eventstore"
)

// verify reads every object back and compares what it holds with what was sealed.
func (k *keeper) verify(ctx context.Context, m registered) error {
	if k.config.Archive == nil {
		return fmt.Errorf("verifying month %s: %w", m, ErrNoArchive)
	}
	if err := k.readBack(ctx, m, "verify", func([]eventstore.Recorded) error { return nil }); err != nil {
		return err
	}
	return k.mark(ctx, k.conn, m, Verified)
}

// readBack hands on the events of an archive, frame by frame; at the end they are those that were sealed, or the error says what
// is wrong.
func (m *Months) readBack(ctx context.Context, month registered, step string, f func([]eventstore.Recorded) error) error {
	manifest, err := readManifest(ctx, m.config.Archive, month.Month, month.Archive)
	if err != nil {
		return err
	}
	decoder, err := newDecoder()
	if err != nil {
		return err
	}
	digester := newDigester()
	for _, part := range manifest.Parts {
		before := digester.rows
		if err := m.readPart(ctx, decoder, month.Month, part, func(events []eventstore.Recorded) error {
			for i := range events {
				digester.add(&events[i])
			}
			return f(events)
		}); err != nil {
			return err
		}
		if rows := digester.rows - before; rows != part.Rows {
			return &DamagedError{Month: month.Month, Key: part.Events.Key, Problem: fmt.Sprintf("holds %d events, the manifest says %d", rows, part.Rows)}
		}
		m.config.Progress(Progress{Month: month.Month, Step: step, Rows: digester.rows, Of: month.Rows})
	}
	return month.compare("the archive", digester.rows, digester.sum())
}

func (m *Months) readPart(ctx context.Context, decoder decoder, month time.Time, part Part, f func([]eventstore.Recorded) error) error {
	content, err := fetch(ctx, m.config.Archive, month, part.Events)
	if err != nil {
		return err
	}
	columns, err := fetch(ctx, m.config.Archive, month, part.Parquet)
	if err != nil {
		return err
	}
	if err := checkParquet(columns, part.Rows); err != nil {
		return &DamagedError{Month: month, Key: part.Parquet.Key, Problem: "is not the part's Parquet", Err: err}
	}
	x, err := readIndex(ctx, m.config.Archive, decoder, month, part)
	if err != nil {
		return err
	}
	for id := range x.Of {
		if !part.Streams.mayHold(id) {
			return &DamagedError{Month: month, Key: manifestKey(month), Problem: "does not fit the part's index"}
		}
	}
	at := int64(0)
	for n, frame := range x.Frames {
		if frame.Offset != at || frame.Bytes < 1 || at+frame.Bytes > int64(len(content)) {
			return &DamagedError{Month: month, Key: part.Index.Key, Problem: "does not fit the part's events"}
		}
		at += frame.Bytes
		events, _, err := decoder.frame(content[frame.Offset:at])
		if err != nil {
			return &DamagedError{Month: month, Key: part.Events.Key, Problem: "cannot be read", Err: err}
		}
		if !x.describes(n, events, part) {
			return &DamagedError{Month: month, Key: part.Index.Key, Problem: "does not fit the part's events"}
		}
		if err := f(events); err != nil {
			return err
		}
	}
	if at != int64(len(content)) {
		return &DamagedError{Month: month, Key: part.Index.Key, Problem: "does not fit the part's events"}
	}
	return ctx.Err()
}

// describes says whether the index finds the events of its nth frame, and the part is where the manifest says.
func (x *index) describes(n int, events []eventstore.Recorded, part Part) bool {
	frame := x.Frames[n]
	if len(events) == 0 || events[0].Position != frame.First || events[len(events)-1].Position != frame.Last ||
		n == 0 && frame.First != part.First || n == len(x.Frames)-1 && frame.Last != part.Last {
		return false
	}
	for i := range events {
		if !x.finds(n, &events[i]) || i > 0 && events[i].Position <= events[i-1].Position {
			return false
		}
	}
	return true
}

// finds says whether a reader of an event's stream and version comes upon the nth frame.
func (x *index) finds(n int, e *eventstore.Recorded) bool {
	frames := x.Of[e.StreamID]
	at, found := slices.BinarySearchFunc(frames, n, func(s seen, n int) int { return cmp.Compare(s.frame(), n) })
	return found && frames[at].first() <= e.Version && (at+1 == len(frames) || e.Version < frames[at+1].first())
}

func readIndex(ctx context.Context, blob Blob, decoder decoder, month time.Time, part Part) (*index, error) {
	content, err := fetch(ctx, blob, month, part.Index)
	if err != nil {
		return nil, err
	}
	x, _, err := decoder.index(content)
	if err != nil {
		return nil, &DamagedError{Month: month, Key: part.Index.Key, Problem: "cannot be read", Err: err}
	}
	return x, nil
}

func checkParquet(content []byte, rows int64) error {
	file, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	if file.NumRows() != rows {
		return errors.New("it holds another number of rows")
	}
	return nil
}
