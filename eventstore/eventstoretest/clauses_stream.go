package eventstoretest

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
)

// clauses hold for streams, whatever the store is bound to. None of them aborts a transaction.
func clauses() []namedClause { return append(clausesOfAppending(), clausesOfReading()...) }

func clausesOfAppending() []namedClause {
	return []namedClause{
		{"an append to a new stream gives versions from 1", func(c *clause) {
			receipt := c.append(c.id, eventstore.NoStream, said{Text: "a"}, said{Text: "b"})
			c.EqualValues(2, receipt.Version)
			c.Len(receipt.Positions, 2)
			c.Len(receipt.EventIDs, 2)
			c.Greater(receipt.Positions[1], receipt.Positions[0])
			c.Equal([]eventstore.Version{1, 2}, versionsOf(c.stream(c.id)))
		}},
		{"an append at the expected version goes on from there", func(c *clause) {
			for i := range eventstore.Version(8) {
				receipt := c.append(c.id, eventstore.AtVersion(i), said{Text: "…"})
				c.Equal(i+1, receipt.Version)
			}
			c.Equal([]eventstore.Version{1, 2, 3, 4, 5, 6, 7, 8}, versionsOf(c.stream(c.id)))
		}},
		{"an append at another version is a conflict that names both, and writes nothing", func(c *clause) {
			c.appendEach(c.id, 4)
			for _, expected := range []eventstore.Expected{eventstore.AtVersion(3), eventstore.AtVersion(5), eventstore.NoStream} {
				_, err := c.store.Append(c.ctx, c.id, expected, said{Text: "late"})
				c.conflict(err, expected, 4)
			}
			c.Len(c.stream(c.id), 4)
			c.append(c.id, eventstore.AtVersion(4), said{Text: "a transaction goes on after a conflict"})
		}},
		{"an append that expects a stream refuses one that is not there", func(c *clause) {
			for _, expected := range []eventstore.Expected{eventstore.AtVersion(1), eventstore.StreamExists} {
				_, err := c.store.Append(c.ctx, c.id, expected, said{Text: "early"})
				c.conflict(err, expected, 0)
			}
			c.Empty(c.stream(c.id))
		}},
		{"an append that expects nothing takes the stream as it is", func(c *clause) {
			for i := range eventstore.Version(6) {
				c.Equal(i+1, c.append(c.id, eventstore.Any, said{Text: "…"}).Version)
			}
			c.EqualValues(7, c.append(c.id, eventstore.StreamExists, said{Text: "…"}).Version)
		}},
		{"an append that is repeated with the same ids returns its first receipt, and writes nothing", func(c *clause) {
			c.append(c.id, eventstore.NoStream, said{Text: "first"})
			for i, expected := range []eventstore.Expected{eventstore.AtVersion(1), eventstore.Any, eventstore.StreamExists} {
				a, b := eventstore.Event{ID: uuid.New(), Data: said{Text: "a"}}, eventstore.Event{ID: uuid.New(), Data: said{Text: "b"}}
				first := c.append(c.id, expected, a, b)
				c.False(first.Repeated)
				for range 2 {
					again := c.append(c.id, expected, a, b)
					c.True(again.Repeated)
					again.Repeated = false
					c.Equal(first, again)
				}
				_, err := c.store.Append(c.ctx, c.id, expected, a, said{Text: "and another"})
				c.ErrorIs(err, eventstore.ErrPartialRetry)
				c.Len(c.stream(c.id), 3+2*i)
			}
		}},
		{"an append to many streams writes all of them at one time, or none", func(c *clause) {
			other := eventstore.NewStreamID("discussion")
			c.append(c.id, eventstore.NoStream, said{Text: "first"})
			two := func(expected eventstore.Expected) []eventstore.StreamAppend {
				return []eventstore.StreamAppend{
					{StreamID: c.id, Expected: expected, Events: []any{said{Text: "a"}, said{Text: "b"}}},
					{StreamID: other, Expected: eventstore.NoStream, Events: []any{said{Text: "c"}}},
				}
			}
			_, err := c.store.AppendMany(c.ctx, two(eventstore.AtVersion(2))...)
			c.conflict(err, eventstore.AtVersion(2), 1)
			c.Empty(c.stream(other))
			receipts, err := c.store.AppendMany(c.ctx, two(eventstore.AtVersion(1))...)
			c.NoError(err)
			c.Equal([]eventstore.Version{3, 1}, []eventstore.Version{receipts[0].Version, receipts[1].Version})
			c.Equal(receipts[0].RecordedAt, receipts[1].RecordedAt)
			c.Len(c.stream(c.id), 3)
			c.Len(c.stream(other), 1)
		}},
		{"an invalid event is refused by index and field, and none of its append is written", func(c *clause) {
			_, err := c.store.Append(c.ctx, c.id, eventstore.NoStream, said{Text: "fine"}, eventstore.Raw{Type: "said", JSON: json.RawMessage(`{"text":"\u0000"}`)})
			var invalid *eventstore.InvalidError
			c.ErrorAs(err, &invalid)
			c.Equal(1, invalid.Index)
			c.Equal("data", invalid.Field)
			c.Empty(c.stream(c.id))
		}},
	}
}

func clausesOfReading() []namedClause {
	return []namedClause{
		{"what is read equals what was appended", func(c *clause) { c.readsWhatWasAppended() }},
		{"an event without a time of its own occurred when it was recorded", func(c *clause) {
			receipt := c.append(c.id, eventstore.NoStream, said{Text: "a"})
			event := c.stream(c.id)[0]
			c.Equal(receipt.RecordedAt, event.RecordedAt)
			c.Equal(event.RecordedAt, event.OccurredAt)
			c.Equal(time.UTC, event.RecordedAt.Location())
		}},
		{"the recorded time never falls within a stream, and an append has one", func(c *clause) {
			var last time.Time
			for range 6 {
				receipt := c.append(c.id, eventstore.Any, said{Text: "a"}, said{Text: "b"})
				c.False(receipt.RecordedAt.Before(last))
				last = receipt.RecordedAt
			}
			for i, event := range c.stream(c.id) {
				if i%2 == 1 {
					c.Equal(c.stream(c.id)[i-1].RecordedAt, event.RecordedAt)
				}
			}
		}},
		{"a stream is read forwards from after a version", func(c *clause) {
			c.appendEach(c.id, 8)
			c.Equal([]eventstore.Version{6, 7, 8}, versionsOf(Collect(c.t, c.store.Stream(c.ctx, c.id, 5))))
			c.Empty(Collect(c.t, c.store.Stream(c.ctx, c.id, 8)))
			c.Empty(Collect(c.t, c.store.Stream(c.ctx, c.id, 99)))
		}},
		{"a stream is read backwards from before a version", func(c *clause) {
			c.appendEach(c.id, 8)
			c.Equal([]eventstore.Version{8, 7, 6, 5, 4, 3, 2, 1}, versionsOf(Collect(c.t, c.store.Backward(c.ctx, c.id, 0))))
			c.Equal([]eventstore.Version{3, 2, 1}, versionsOf(Collect(c.t, c.store.Backward(c.ctx, c.id, 4))))
			c.Empty(Collect(c.t, c.store.Backward(c.ctx, c.id, 1)))
			c.Len(Collect(c.t, c.store.Backward(c.ctx, c.id, 99)), 8)
		}},
		{"a loop may be left early, and its stream read again", func(c *clause) {
			c.appendEach(c.id, 5)
			for event, err := range c.store.Stream(c.ctx, c.id, 0) {
				c.NoError(err)
				if event.Version == 4 {
					break
				}
			}
			c.Len(c.stream(c.id), 5)
		}},
		{"a stream without events yields nothing and has no head", func(c *clause) {
			c.Empty(c.stream(c.id))
			c.Empty(Collect(c.t, c.store.Backward(c.ctx, c.id, 0)))
			_, err := c.store.Head(c.ctx, c.id)
			c.ErrorIs(err, eventstore.ErrStreamNotFound)
		}},
		{"the head names version, project and times", func(c *clause) {
			first := c.append(c.id, eventstore.NoStream, said{Text: "no project yet"}, said{Project: "p1"}, said{Project: "p2"})
			last := c.append(c.id, eventstore.Any, said{Project: "p3"})
			head, err := c.store.Head(c.ctx, c.id)
			c.NoError(err)
			c.Equal(eventstore.Head{StreamID: c.id, Version: 4, Project: "p1", FirstRecordedAt: first.RecordedAt, LastRecordedAt: last.RecordedAt}, head)
		}},
	}
}

func (c *clause) conflict(err error, expected eventstore.Expected, actual eventstore.Version) {
	c.t.Helper()
	var conflict *eventstore.ConflictError
	c.True(errors.As(err, &conflict), "%v", err)
	c.ErrorIs(err, eventstore.ErrConflict)
	c.Equal(eventstore.ConflictError{StreamID: c.id, Expected: expected, Actual: actual}, *conflict)
}

func (c *clause) readsWhatWasAppended() {
	event := eventstore.Event{
		ID:         uuid.Must(uuid.NewV7()),
		Data:       said{Project: "projekt-ż", Text: "Zażółć gęślą jaźń <b>&</b> \u2028 \U0001F3A7"},
		OccurredAt: time.Date(2004, 12, 13, 10, 0, 50, 420_123_456, time.FixedZone("CET", 3600)),
		Metadata: eventstore.Metadata{
			CorrelationID: "c-1", CausationID: "c-0", Actor: "moderator",
			Extra: map[string]json.RawMessage{"topic": json.RawMessage(`["a", 1.50]`)},
		},
	}
	receipt := c.append(c.id, eventstore.NoStream, event, asked{Text: "why?"}, eventstore.Raw{Type: "said", JSON: json.RawMessage("{ \"text\" :\t\"kept\" }")})
	read := c.stream(c.id)
	c.Len(read, 3)
	first := read[0]
	c.Equal(c.id, first.StreamID)
	c.Equal(event.ID, first.ID)
	c.Equal(receipt.Positions[0], first.Position)
	c.Equal("said", first.Type)
	c.Equal(1, first.SchemaVersion)
	c.Equal(event.Data, first.Data)
	c.Equal(time.Date(2004, 12, 13, 9, 0, 50, 420_123_000, time.UTC), first.OccurredAt)
	c.Equal(receipt.RecordedAt, first.RecordedAt)
	event.Metadata.Extra["topic"] = json.RawMessage(`["a",1.50]`) // metadata is written compact
	c.Equal(event.Metadata, first.Metadata)
	c.Equal(asked{Text: "why?"}, read[1].Data)
	c.Equal(said{Text: "kept"}, read[2].Data)
	c.Equal("{ \"text\" :\t\"kept\" }", string(read[2].JSON), "a Raw body is stored byte for byte")
}
