//go:build cgo

package duckdbtest

import (
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/devdb"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/partition"
)

// january is the first of the log's months.
var january = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant that Go cannot write

const (
	months   = 4       // from January on; what is recorded late comes into the last
	oddMonth = 400     // odd events in January, and as many in February
	large    = 900_000 // bytes of some of January's, so that its archive has more than one part
)

// newLog is a log of a small platform, and of events that a reader may get wrong.
func newLog(t *testing.T) *eventstoretest.Log {
	t.Helper()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	_, err := log.Import(t.Context(), synthetic.New(synthetic.Config{
		Seed: 7, Personas: 30, Users: 5, Projects: 6, Months: 3, From: january, Events: 5000,
	}).Source, eventstore.ImportConfig{})
	require.NoError(t, err)
	plain, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	_, err = plain.Import(t.Context(), oddEvents, eventstore.ImportConfig{})
	require.NoError(t, err)
	return log
}

func oddEvents(string) iter.Seq2[eventstore.Imported, error] {
	bodies := []string{
		`{}`, `[]`, `null`, `""`, `-0.0`, `1e400`, `"it's \"quoted\" \\ and \/ ''twice''; -- -"`, `{ "a" : 1,` + "\r\n\t" + `"a":2 }`,
		`{"text":"zażółć gęślą jaźń, 漢字, עברית, 😀, e\u0301, \u00e9, \n"}`, "\"\u2028 \u00a0 \ufeff \uffff\"", `"2024-01-01"`, `"NULL"`, `[[[{"":[]}]]]`,
	}
	streams := []eventstore.StreamID{"note-1", "note-it's \"quoted\"", "note-żółw 漢字 😀", `note-\N`, "note-,;|"}
	types := []string{"note", "it's \"quoted\"", "żółw 漢字 😀", "NULL", "1"}
	occurred := []time.Time{
		{},
		time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2199, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
	}
	metadata := []eventstore.Metadata{{}, {Actor: "it's \"ż\" 😀"}, {CorrelationID: "c", Extra: map[string]json.RawMessage{"ł": json.RawMessage(`[1.50, "\\"]`)}}}
	return func(yield func(eventstore.Imported, error) bool) {
		for i := range 2 * oddMonth {
			body := bodies[i%len(bodies)]
			if i%5 == 0 && i < oddMonth {
				body = fmt.Sprintf(`{"n":%d,"text":%q}`, i, strings.Repeat("słowo za słowem ", large/17))
			}
			recorded := january.AddDate(0, i/oddMonth, 0).Add(time.Duration(i%oddMonth)*97*time.Minute + time.Duration(i)*time.Microsecond)
			event := eventstore.Event{
				Data:       eventstore.Raw{Type: types[i%len(types)], SchemaVersion: 1 + i%3, JSON: json.RawMessage(body)},
				OccurredAt: occurred[i%len(occurred)], Metadata: metadata[i%len(metadata)],
			}
			if !yield(eventstore.Imported{StreamID: streams[i%len(streams)], Event: event, RecordedAt: recorded}, nil) {
				return
			}
		}
	}
}

// archive moves the log's months to a directory, and drops them. It goes past a pooler, where there is one.
func archive(t *testing.T, log *eventstoretest.Log) (dir string) {
	t.Helper()
	database, err := devdb.Shared(t.Context())
	require.NoError(t, err)
	store, err := eventstore.New(eventstoretest.Pool(t, database.DirectURL), eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	dir = t.TempDir()
	blob, err := partition.NewDir(dir)
	require.NoError(t, err)
	keeper, err := partition.New(store, partition.Config{
		Archive: blob, Online: 1000, Quarantine: time.Nanosecond, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, keeper.Migrate(t.Context()))
	for i := range months {
		state, err := keeper.Archive(t.Context(), january.AddDate(0, i, 0))
		require.NoError(t, err)
		require.Equal(t, partition.Dropped, state)
	}
	var left int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM `+log.Schema()+`.events`).Scan(&left))
	require.Zero(t, left)
	return dir
}
