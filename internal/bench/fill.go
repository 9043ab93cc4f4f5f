package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// filling is what a log holds before it is measured.
type filling struct {
	months int  // this one and those before it
	events int  // of each month; a multiple of abreast*length
	length int  // events of a stream, all in one month
	past   bool // this month stays empty
}

// abreast is how many streams are written at a time: the events of so many alternate in the log.
const abreast = 5

// filledLog is a log with events, and the streams that it holds.
type filledLog struct {
	*twin
	streams []eventstore.StreamID
}

// filledTwin returns a filled log with its raw copy; rows that name the same one share it.
func (w *world) filledTwin(ctx context.Context, name string, f filling) (*filledLog, error) {
	return w.fillOnce(ctx, name, f, func(l *filledLog) error {
		if err := l.addRaw(ctx); err != nil {
			return err
		}
		return l.tidy(ctx, l.raw.schema+".events")
	})
}

// filledLog returns a filled log without a raw copy; rows that name the same one share it.
func (w *world) filledLog(ctx context.Context, name string, f filling) (*filledLog, error) {
	return w.fillOnce(ctx, name, f, func(*filledLog) error { return nil })
}

func (w *world) fillOnce(ctx context.Context, name string, f filling, then func(*filledLog) error) (*filledLog, error) {
	if log := w.filled[name]; log != nil {
		return log, nil
	}
	t, err := w.newLog(ctx, name)
	if err != nil {
		return nil, err
	}
	log := &filledLog{twin: t}
	if err := log.fill(ctx, f); err != nil {
		return nil, fmt.Errorf("filling the log: %w", err)
	}
	if err := log.tidy(ctx, t.schema+".events, "+t.schema+".streams"); err != nil {
		return nil, err
	}
	if err := then(log); err != nil {
		return nil, err
	}
	w.filled[name] = log
	_, err = w.admin.Exec(ctx, `CHECKPOINT`)
	return log, err
}

// tidy does now what autovacuum would do during a measurement.
func (l *filledLog) tidy(ctx context.Context, tables string) error {
	if _, err := l.world.admin.Exec(ctx, `VACUUM (ANALYZE) `+tables); err != nil {
		return fmt.Errorf("tidying %s: %w", tables, err)
	}
	return nil
}

// fill copies events and heads straight into the tables, as their owner may.
func (l *filledLog) fill(ctx context.Context, f filling) error {
	now := time.Now().UTC()
	this := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if err := l.makeMonths(ctx, this, f.months); err != nil {
		return err
	}
	bodies, err := bodies()
	if err != nil {
		return err
	}
	source := &eventSource{filling: f, bodies: bodies}
	for back := f.months - 1; back >= 0; back-- {
		from := this.AddDate(0, -back, 0)
		until := from.AddDate(0, 1, 0)
		if back == 0 && f.past {
			break
		}
		if back == 0 {
			until = now.Add(-time.Second)
		}
		source.begin(from, max(0, until.Sub(from))/time.Duration(f.events))
		_, err := l.world.admin.CopyFrom(ctx, pgx.Identifier{l.schema, "events"}, eventColumns(), pgx.CopyFromFunc(source.next))
		if err != nil {
			return err
		}
	}
	l.streams = source.streams
	_, err = l.world.admin.CopyFrom(ctx, pgx.Identifier{l.schema, "streams"},
		[]string{"stream_id", "project_id", "version", "first_recorded_at", "last_recorded_at"}, pgx.CopyFromRows(source.heads))
	if err != nil {
		return err
	}
	_, err = l.world.admin.Exec(ctx, `SELECT setval($1::text::regclass, $2)`, l.schema+".events_position_seq", source.position)
	return err
}

// makeMonths makes the months before this one, which only a log with a test clock allows.
func (l *filledLog) makeMonths(ctx context.Context, this time.Time, months int) error {
	return pgx.BeginFunc(ctx, l.world.admin, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO `+l.schema+`.settings (name, value) VALUES ('test_clock', 'on')`); err != nil {
			return err
		}
		for back := range months {
			month := this.AddDate(0, -back, 0).Format(time.DateOnly)
			if _, err := tx.Exec(ctx, `SELECT `+l.schema+`.ensure_month($1::text::date)`, month); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `DELETE FROM `+l.schema+`.settings WHERE name = 'test_clock'`)
		return err
	})
}

func bodies() ([]string, error) {
	made := make([]string, 512)
	for i, response := range responses(0, len(made)) {
		body, err := json.Marshal(response)
		if err != nil {
			return nil, err
		}
		made[i] = string(body)
	}
	return made, nil
}

// eventSource makes the rows of a filling, month by month, and the heads of their streams.
type eventSource struct {
	filling
	bodies   []string
	streams  []eventstore.StreamID
	heads    [][]any
	position int64

	from time.Time // of the month at hand
	step time.Duration
	done int // events of the month
}

// discussionBegun is the id of a discussion that was begun then: it holds the time, as every id does that is made when needed.
func discussionBegun(at time.Time) eventstore.StreamID {
	id := newID()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	return eventstore.StreamID("discussion-" + id.String())
}

func (s *eventSource) begin(month time.Time, step time.Duration) {
	s.from, s.step, s.done = month, step, 0
}

// next is the next event's row; nil at the end of the month.
func (s *eventSource) next() ([]any, error) {
	if s.done == s.events {
		return nil, nil
	}
	at := s.done % (abreast * s.length) // in a group of streams that are written at the same time
	if at == 0 {
		for i := range abreast {
			group := s.from.Add(time.Duration(s.done) * s.step)
			stream := discussionBegun(group)
			s.streams = append(s.streams, stream)
			last := group.Add(time.Duration((s.length-1)*abreast+i) * s.step)
			s.heads = append(s.heads, []any{string(stream), "project-7", s.length, group.Add(time.Duration(i) * s.step), last})
		}
	}
	stream := s.streams[len(s.streams)-abreast+at%abreast]
	recorded := s.from.Add(time.Duration(s.done) * s.step)
	s.done++
	s.position++
	return []any{
		s.position, recorded, string(stream), at/abreast + 1, newID(), focusgroup.TypeResponse, 1, recorded,
		s.bodies[s.position%int64(len(s.bodies))], "{}",
	}, nil
}
