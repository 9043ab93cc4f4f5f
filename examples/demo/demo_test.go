package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

func demo(t *testing.T, recording string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, recording))
	t.Log("\n" + out.String())
	return out.String()
}

// requireLines wants each pattern to match a line, in this order.
func requireLines(t *testing.T, text string, patterns ...string) {
	t.Helper()
	rest := text
	for _, pattern := range patterns {
		at := regexp.MustCompile(`(?m)^.*` + pattern).FindStringIndex(rest)
		require.NotNil(t, at, "no line like %q follows in:\n%s", pattern, text)
		rest = rest[at[1]:]
	}
}

// liveLines hold for every recording.
func liveLines() []string {
	return []string{
		`Appended 800 events by 4 writers to 12 new discussions, 200 more in transactions that rolled back, in \d`,
		`Seen     800 events at positions \d+ to \d+;`,
		`In order: yes\. Skipped: none\. Doubled: none\. Seen though rolled back: none\.$`,
		`median [\d.]+ ms, 99 % within [\d.]+ ms$`,
	}
}

func TestDemoOfItsOwnRecordings(t *testing.T) {
	text := demo(t, "")
	requireLines(t, text, append([]string{
		`Schema:   hindsight_demo_`,
		`checkout-en\.ndjson +39 events in 1 stream, of 2026-10-14$`,
		`opakowania-pl\.ndjson +39 events in 1 stream, of 2026-11-05$`,
		`Imported 78 events of 2 streams in \d`,
		`The log keeps events .*` + time.Now().UTC().Format("2006-01") + ` \(open, `,
		`“One-page checkout for an outdoor shop”, project checkout-redesign, 14 October 2026 09:00 UTC$`,
		`with Hannah Brooks \(34, nurse\), `,
		`\? Think of the last time`,
		`\+00:05 » Hannah Brooks +Walking boots`,
		`\+01:19 M Ava +Tom, an empty basket`,
		`\+02:44 » Marcus`, `\+02:42 · Sofia`,
		`… 14 turns left out …$`,
		`\+09:16  ended: completed\.`,
		`Version 13 of 39, \+03:00, running: 12 turns \(9 responses, 3 followups\), [\d,]+ tokens, \$0\.00`,
		`3 questions of the guide not asked yet`,
		`Version 26 of 39, \+06:11, running: 25 turns`,
		`Version 39 of 39, \+09:16, ended \(completed\): 37 turns \(23 responses, 14 followups\)`,
		`spoke: Hannah 6× 01:25, Tom 7× 01:24`,
		`This is the new checkout.* answered by Priya, Hannah, Marcus, Tom, Sofia; 4 followups$`,
	}, liveLines()...)...)
	lines := strings.Split(text, "\n")
	require.Less(t, len(lines), 90)
	for _, line := range lines {
		require.LessOrEqual(t, utf8.RuneCountInString(line), width, line)
	}
}

func TestDemoOfACorpusFile(t *testing.T) {
	text := demo(t, filepath.Join(corpustest.Recordings(t), "qmsum_committee_val.ndjson.gz"))
	requireLines(t, text, append([]string{
		`qmsum_committee_val\.ndjson\.gz +1,388 events in 6 streams, of 2020-02-04 to 2020-02-09$`,
		`Imported 1,388 events of 6 streams in \d`,
		`“QMSum/committee covid_2”, project qmsum-committee, 4 February 2020 09:30 UTC$`,
		`\+00:00 M The Chair.* I call the meeting to order`,
		`… \d+ turns left out …$`,
		`  ended: completed\.`,
		`, running: .* no model usage$`,
		`, ended \(completed\): `,
	}, liveLines()...)...)
}

func TestDemoTellsWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	err := run(t.Context(), &bytes.Buffer{}, filepath.Join(folder, "nowhere.ndjson"))
	require.ErrorIs(t, err, os.ErrNotExist)

	broken := filepath.Join(folder, "broken.ndjson")
	require.NoError(t, os.WriteFile(broken, []byte(`{"recording":1,"stream":"discussion-1","version":1}`), 0o600))
	var wrong *focusgroup.RecordingError
	require.ErrorAs(t, run(t.Context(), &bytes.Buffer{}, broken), &wrong)
	require.Equal(t, "type", wrong.Field)

	empty := filepath.Join(folder, "empty.ndjson")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.ErrorContains(t, run(t.Context(), &bytes.Buffer{}, empty), "holds no discussion")
}

// stopper cancels once a text was printed, as a Ctrl-C would.
type stopper struct {
	bytes.Buffer
	at   string
	stop context.CancelFunc
}

func (s *stopper) Write(p []byte) (int, error) {
	if strings.Contains(string(p), s.at) {
		s.stop()
	}
	return s.Buffer.Write(p)
}

func TestDemoRemovesItsSchemaWhenInterrupted(t *testing.T) {
	log := eventstoretest.New(t, eventstore.Config{})
	t.Setenv("HINDSIGHT_DATABASE_URL", log.Pool.Config().ConnString())
	t.Setenv("HINDSIGHT_DATABASE_FROM", "")
	for _, at := range []string{"1. Import", "2. Replay", "4. A follower"} {
		t.Run(at, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			out := &stopper{at: at, stop: stop}
			require.ErrorIs(t, run(ctx, out, ""), context.Canceled)
			schema := regexp.MustCompile(`hindsight_demo_\w+`).FindString(out.String())
			require.NotEmpty(t, schema)
			var left int
			require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = $1`, schema).Scan(&left))
			require.Zero(t, left, "the schema stays in the user's database")
		})
	}
}

func TestDemoReportsAnOutputThatFails(t *testing.T) {
	full := errors.New("the disk is full")
	require.ErrorIs(t, run(t.Context(), failing{full}, ""), full)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestRecordingsAreCanonical: what is exported after an import is what the demo ships, byte for byte.
func TestRecordingsAreCanonical(t *testing.T) {
	entries, err := embedded.ReadDir("recordings")
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			want, err := embedded.ReadFile("recordings/" + entry.Name())
			require.NoError(t, err)
			requireAsTheCodecWrites(t, want)
			log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
			done, err := focusgroup.Import(t.Context(), log.Store, focusgroup.ReadRecording(bytes.NewReader(want)))
			require.NoError(t, err)
			require.Equal(t, 39, done.Events)
			require.Equal(t, 1, done.Streams)
			var got bytes.Buffer
			_, err = focusgroup.Export(&got, log.All(t.Context(), 0, eventstore.Filter{}))
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}

// requireAsTheCodecWrites: the log keeps bodies as they come, so the export alone would not tell an unknown field.
func requireAsTheCodecWrites(t *testing.T, recording []byte) {
	t.Helper()
	for line, err := range focusgroup.ReadRecording(bytes.NewReader(recording)) {
		require.NoError(t, err)
		raw := line.Event.Data.(eventstore.Raw)
		payload, err := focusgroup.Codec().Decode(raw)
		require.NoError(t, err)
		var body bytes.Buffer
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false)
		require.NoError(t, encoder.Encode(payload))
		require.Equal(t, body.String(), string(raw.JSON)+"\n", "line %d", line.Number)
	}
}

func TestVerdictSeesWhatIsWrong(t *testing.T) {
	ids := make([]eventstore.Event, 4)
	for i := range ids {
		ids[i].ID[0] = byte(i + 1)
	}
	a, b, c, d := ids[0].ID, ids[1].ID, ids[2].ID, ids[3].ID
	l := live{seen: []sighting{{a, 7, 3}, {b, 6, 1}, {a, 8, 2}, {d, 9, 4}}}
	l.committed = append(l.committed, a, b, c)
	l.rolledBack = append(l.rolledBack, d)
	v := l.compare()
	require.Equal(t, verdict{
		seen: 4, committed: 3, rolledBack: 1, disorder: 1, doubled: 1, skipped: 1, phantoms: 1,
		median: 3, p99: 4, first: 7, last: 9,
	}, v)
	var out bytes.Buffer
	require.Error(t, v.show(&page{out: &out}, time.Second))
	require.Contains(t, out.String(), "In order: no. Skipped: 1. Doubled: 1. Seen though rolled back: 1.")
}

func TestText(t *testing.T) {
	require.Equal(t, "12,345", thousands(12345))
	require.Equal(t, "-123", thousands(-123))
	require.Equal(t, "1,234,567", thousands(int64(1234567)))
	require.Equal(t, "1:04:07", clock(time.Hour+4*time.Minute+7*time.Second))
	require.Equal(t, "-00:02", clock(-2*time.Second))
	require.Equal(t, "żółć…", shorten("żółć  i śledź", 6))
	require.Equal(t, "short", shorten(" short ", 5))
	require.Equal(t, "a, b and 1 more", firstFew([]string{"a", "b", "c"}, 2))
	require.Equal(t, "a, b, c", fit([]string{"a", "b", "c"}, 7))
	require.Equal(t, "a and 2 more", fit([]string{"a", "b", "c"}, 6))
	require.Equal(t, "Hannah", shortName(focusgroup.Participant{Name: "Hannah Brooks"}))
	require.Equal(t, "Hon. Bill Blair", shortName(focusgroup.Participant{Name: "Hon. Bill Blair (Minister)"}))
	require.Equal(t, "The Chair", shortName(focusgroup.Participant{Name: "The Chair"}))
	role := focusgroup.Participant{Name: "Project Manager", Attributes: focusgroup.Attributes{Occupation: "Project Manager"}}
	require.Equal(t, "Project Manager", shortName(role))
}
