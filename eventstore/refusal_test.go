package eventstore_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantee 8: each breach of a limit is refused by event and field, and nothing is written.
func TestBadEventsAreRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	raw := func(body string) eventstore.Raw { return eventstore.Raw{Type: "note", JSON: rawJSON(body)} }
	at := func(year int) eventstore.Event {
		return eventstore.Event{Data: note{}, OccurredAt: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	withMetadata := func(m eventstore.Metadata) eventstore.Event { return eventstore.Event{Data: note{}, Metadata: m} }
	for name, bad := range map[string]struct {
		event  any
		field  string
		reason string
	}{
		"nothing":               {nil, "data", "is nil"},
		"a nil pointer":         {(*note)(nil), "data", "is nil"},
		"a pointer to a Raw":    {&eventstore.Raw{}, "data", "want a Raw"},
		"a huge schema version": {eventstore.Raw{Type: "note", SchemaVersion: 1 << 32, JSON: rawJSON(`{}`)}, "schema version", "end at"},
		"not JSON":              {raw(`{"a":`), "data", "not valid JSON"},
		"no bytes":              {raw(``), "data", "not valid JSON"},
		"two values":            {raw(`{} {}`), "data", "not valid JSON"},
		"bad UTF-8":             {raw("{\"a\":\"\xff\"}"), "data", "not valid UTF-8"},
		"bad UTF-8 in a text":   {note{"a\xffb"}, "data", "not valid UTF-8"},
		"a raw NUL":             {raw("{\"a\":\"\x00\"}"), "data", "not valid JSON"},
		"an escaped NUL":        {raw(`{"a":"x\u0000"}`), "data", `\u0000`},
		"a NUL in a text":       {note{"a\x00b"}, "data", `\u0000`},
		"a NUL in a key":        {raw(`{"\u0000":1}`), "data", `\u0000`},
		"a lone high half":      {raw(`{"a":"\ud83d"}`), "data", `\ud83d`},
		"a high half and text":  {raw(`{"a":"\ud83d\n\u0041"}`), "data", `\ud83d`},
		"two high halves":       {raw(`{"a":"\ud83d\ud83d"}`), "data", `\ud83d`},
		"a lone low half":       {raw(`{"a":"\uDE00"}`), "data", `\ude00`},
		"deep nesting":          {raw(strings.Repeat("[", 257) + strings.Repeat("]", 257)), "data", "nested"},
		"a large body":          {note{strings.Repeat("x", eventstore.MaxDataBytes)}, "data", "at most"},
		"a number JSON lacks":   {eventstore.Event{Data: eventstore.Raw{Type: "note", JSON: rawJSON(`NaN`)}}, "data", "not valid JSON"},
		"no type":               {eventstore.Raw{JSON: rawJSON(`{}`)}, "type", "empty"},
		"a long type":           {eventstore.Raw{Type: strings.Repeat("t", 101), JSON: rawJSON(`{}`)}, "type", "at most"},
		"a NUL in the type":     {eventstore.Raw{Type: "a\x00", JSON: rawJSON(`{}`)}, "type", "control character"},
		"schema version -1":     {eventstore.Raw{Type: "note", SchemaVersion: -1, JSON: rawJSON(`{}`)}, "schema version", "start at 1"},
		"a time long ago":       {at(1899), "occurred_at", "outside"},
		"a time far ahead":      {at(2200), "occurred_at", "outside"},
		"a NUL in metadata":     {withMetadata(eventstore.Metadata{Actor: "a\x00"}), "metadata", `\u0000`},
		"bad UTF-8 metadata":    {withMetadata(eventstore.Metadata{Actor: "\xff"}), "metadata", "UTF-8"},
		"large metadata":        {withMetadata(eventstore.Metadata{Actor: strings.Repeat("x", 65<<10)}), "metadata", "at most"},
		"metadata not JSON":     {withMetadata(eventstore.Metadata{Extra: map[string]json.RawMessage{"x": rawJSON(`{`)}}), "metadata", ""},
		"a reserved name":       {withMetadata(eventstore.Metadata{Extra: map[string]json.RawMessage{"actor": rawJSON(`1`)}}), "metadata", "reserved"},
		"a key id of one's own": {withMetadata(eventstore.Metadata{KeyID: "k"}), "metadata", "key id"},
		"a long project":        {eventstore.Event{Data: note{}, Project: strings.Repeat("p", 201)}, "project", "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := log.Append(t.Context(), "bad-1", eventstore.Any, note{"fine"}, bad.event)
			var invalid *eventstore.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			require.Equal(t, 1, invalid.Index, err)
			require.Equal(t, bad.field, invalid.Field, err)
			require.Contains(t, err.Error(), bad.reason)
		})
	}
	_, err := log.Append(t.Context(), "bad-1", eventstore.Any, struct{ Unknown bool }{})
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
	_, err = log.Append(t.Context(), "bad-1", eventstore.Any, map[string]float64{"x": math.NaN()})
	require.ErrorIs(t, err, eventstore.ErrUnknownType)
	require.Empty(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})))
}

// Guarantee 8 for everything that is not one event.
func TestBadArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	ctx := t.Context()
	for _, id := range []eventstore.StreamID{"", "x", "-x", "x-", "a-\x00", "a-\xff", eventstore.StreamID("a-" + strings.Repeat("b", 199))} {
		_, err := log.Append(ctx, id, eventstore.Any, note{})
		require.ErrorIs(t, err, eventstore.ErrInvalid, "%q", id)
		_, err = log.Head(ctx, id)
		require.ErrorIs(t, err, eventstore.ErrInvalid, "%q", id)
		for _, err := range log.Stream(ctx, id, 0) {
			require.ErrorIs(t, err, eventstore.ErrInvalid, "%q", id)
		}
	}
	many := make([]any, eventstore.MaxEventsPerAppend+1)
	for i := range many {
		many[i] = note{}
	}
	big := make([]any, 17)
	for i := range big {
		big[i] = note{strings.Repeat("x", eventstore.MaxDataBytes-100)}
	}
	for name, call := range map[string]func() error{
		"no events":         func() error { _, err := log.Append(ctx, "a-1", eventstore.Any); return err },
		"too many events":   func() error { _, err := log.Append(ctx, "a-1", eventstore.Any, many...); return err },
		"too many bytes":    func() error { _, err := log.Append(ctx, "a-1", eventstore.Any, big...); return err },
		"negative version":  func() error { _, err := log.Append(ctx, "a-1", eventstore.AtVersion(-1), note{}); return err },
		"after version -1":  func() error { return firstError(log.Stream(ctx, "a-1", -1)) },
		"before version -1": func() error { return firstError(log.Backward(ctx, "a-1", -1)) },
		"after position -1": func() error { return firstError(log.All(ctx, -1, eventstore.Filter{})) },
		"a category with a hyphen": func() error {
			return firstError(log.All(ctx, 0, eventstore.Filter{Categories: []string{"a-b"}}))
		},
		"an empty type": func() error { return firstError(log.All(ctx, 0, eventstore.Filter{Types: []string{""}})) },
		"a NUL project": func() error { return firstError(log.All(ctx, 0, eventstore.Filter{Project: "\x00"})) },
		"a turned range": func() error {
			now := time.Now()
			return firstError(log.All(ctx, 0, eventstore.Filter{Recorded: eventstore.TimeRange{From: now, Until: now}}))
		},
		"a page of -1":       func() error { _, err := log.Page(ctx, eventstore.PageQuery{Limit: -1}); return err },
		"a page of millions": func() error { _, err := log.Page(ctx, eventstore.PageQuery{Limit: 1e6}); return err },
		"a schema to quote":  func() error { _, err := eventstore.New(nil, eventstore.Config{Schema: `a"b`}); return err },
		"a negative skew":    func() error { _, err := eventstore.New(nil, eventstore.Config{MaxClockSkew: -1}); return err },
		"a tiny poll":        func() error { _, err := eventstore.New(nil, eventstore.Config{PollInterval: 1}); return err },
		"a page size of -1":  func() error { _, err := eventstore.New(nil, eventstore.Config{PageSize: -1}); return err },
	} {
		require.ErrorIs(t, call(), eventstore.ErrInvalid, name)
	}
	require.Empty(t, eventstoretest.Collect(t, log.All(ctx, 0, eventstore.Filter{})))
}

// Guarantee 8's reason: whatever passes the check, PostgreSQL must be able to store, read back and take apart for ever.
func TestWhatPassesTheCheckPostgreSQLCanRead(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{
		`\u0000`, `\ud83d`, `\ude00`, `\ud83d\ude00`, `\uFFFF`, `\u0041`, `\\u0000`, `\\`, `\"`, `\/`, `\b`, "ż", "\U0001F600", "a",
		"\xff", "\x00", "\x1f", `\u12`, `\x`, "\u2028", "\x7f", `"`, `{`, `[`, "1e999999", `,"a":`,
	}
	accepted := 0
	for i := range 3000 {
		var text strings.Builder
		for range random.IntN(5) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		body := rawJSON(`{"x":"` + text.String() + `"}`)
		receipt, err := log.Append(t.Context(), eventstore.StreamID(fmt.Sprintf("json-%d", i)), eventstore.NoStream, eventstore.Raw{Type: "note", JSON: body})
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrInvalid, "PostgreSQL refused what the check let through: %q", body)
			continue
		}
		accepted++
		var stored, value string
		err = log.Pool.QueryRow(t.Context(), log.sql(`SELECT event_data::text, event_data->>'x' FROM {{schema}}.events WHERE position = $1`), receipt.Position()).Scan(&stored, &value)
		require.NoError(t, err, "%q", body)
		require.Equal(t, string(body), stored, "guarantee 6")
	}
	require.Greater(t, accepted, 500)
}
