package focusgroup_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

func export(t *testing.T, log *eventstoretest.Log) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := focusgroup.Export(&out, log.All(t.Context(), 0, eventstore.Filter{}))
	require.NoError(t, err)
	return out.Bytes()
}

// Export, import into an empty log, export: the same bytes, whatever the bodies look like.
func TestExportImportExportGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	first := newLog(t)
	_, err := first.Append(t.Context(), focusgroup.NewDiscussionID(), eventstore.NoStream, talk()...)
	require.NoError(t, err)
	_, err = first.Append(t.Context(), "discussion-raw", eventstore.NoStream,
		eventstore.Raw{Type: focusgroup.TypeResponse, JSON: []byte("{ \"text\" : \"a <b> & \\u00e9 \u2028\",\n \"n\": 1.50, \"n\": 2 }")},
		eventstore.Event{Data: focusgroup.Followup{Text: "ż"}, Metadata: eventstore.Metadata{Actor: "<me>", Extra: map[string]json.RawMessage{"z": json.RawMessage(`{"a": [1, 2.0]}`), "b": json.RawMessage(`null`)}}})
	require.NoError(t, err)
	once := export(t, first)
	require.Equal(t, 10, bytes.Count(once, []byte("\n")))

	second := newLog(t)
	imported, err := focusgroup.Import(t.Context(), second.Store, focusgroup.ReadRecording(bytes.NewReader(once)))
	require.NoError(t, err)
	require.Equal(t, 10, imported.Events)
	require.Equal(t, 2, imported.Streams)
	require.Equal(t, string(once), string(export(t, second)))
	head, err := second.Head(t.Context(), eventstoretest.Collect(t, second.All(t.Context(), 0, eventstore.Filter{}))[0].StreamID)
	require.NoError(t, err)
	require.Equal(t, "p1", head.Project, "the project is learnt from the payload")

	imported, err = focusgroup.Import(t.Context(), second.Store, focusgroup.ReadRecording(bytes.NewReader(once)))
	require.NoError(t, err, "what was imported is passed over")
	require.Equal(t, 10, imported.Repeated)
	require.Equal(t, string(once), string(export(t, second)))
	other := regexp.MustCompile(`"id":"[^"]+"`).ReplaceAllFunc(once, func([]byte) []byte { return []byte(`"id":"` + uuid.NewString() + `"`) })
	require.NotEqual(t, once, other)
	_, err = focusgroup.Import(t.Context(), second.Store, focusgroup.ReadRecording(bytes.NewReader(other)))
	require.ErrorIs(t, err, eventstore.ErrConflict, "what is there already is not imported over")
	var wrong *focusgroup.RecordingError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, 1, wrong.Line)

	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err = w.Write(once)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	third := newLog(t)
	_, err = focusgroup.Import(t.Context(), third.Store, focusgroup.ReadRecording(&zipped))
	require.NoError(t, err)
	require.Equal(t, string(once), string(export(t, third)))
}

const goodLine = `{"recording":1,"stream":"discussion-x","version":1,"type":"response","occurred_at":"2026-03-01T09:00:00Z","data":{"text":"hi"}}`

func TestBadRecordingsNameLineAndField(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	replace := func(old, new string) string { return strings.Replace(goodLine, old, new, 1) }
	for name, c := range map[string]struct {
		line, field, reason string
	}{
		"not JSON":               {`{"recording":1`, "", "unexpected end"},
		"an array":               {`[]`, "", "cannot unmarshal"},
		"no recording":           {replace(`"recording":1,`, ``), "recording", "is missing"},
		"another format":         {replace(`"recording":1`, `"recording":2`), "recording", "format 2"},
		"no stream":              {replace(`"stream":"discussion-x",`, ``), "stream", "is missing"},
		"a bad stream":           {replace(`discussion-x`, `x`), "stream", "category-id"},
		"version 0":              {replace(`"version":1`, `"version":0`), "version", "start at 1"},
		"a text for a version":   {replace(`"version":1`, `"version":"1"`), "version", "cannot unmarshal"},
		"a bad time":             {replace(`2026-03-01T09:00:00Z`, `yesterday`), "occurred_at", "yesterday"},
		"a null time":            {replace(`"2026-03-01T09:00:00Z"`, `null`), "occurred_at", "is null"},
		"a time long ago":        {replace(`2026-03`, `1726-03`), "occurred_at", "outside"},
		"a bad id":               {replace(`"version":1`, `"version":1,"id":"7"`), "id", "invalid UUID"},
		"schema version 0":       {replace(`"version":1`, `"version":1,"schema_version":0`), "schema_version", "start at 1"},
		"a later schema":         {replace(`"version":1`, `"version":1,"schema_version":9`), "schema_version", "newer"},
		"an unknown type":        {replace(`response`, `shout`), "type", "unknown event type"},
		"a misspelt field":       {replace(`"data"`, `"date"`), "data", "is missing"},
		"a field too many":       {replace(`"version":1`, `"version":1,"position":7`), "position", "not a field"},
		"a body of another kind": {replace(`"hi"`, `7`), "data.text", "cannot unmarshal"},
		"an escaped NUL":         {replace(`hi`, `\u0000`), "data", `\u0000`},
		"metadata as a text":     {replace(`"version":1`, `"version":1,"metadata":"x"`), "metadata", "cannot unmarshal"},
		"a line too long":        {replace(`hi`, strings.Repeat("x", focusgroup.MaxLineBytes)), "", "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			recording := strings.Replace(goodLine, "discussion-x", string(focusgroup.NewDiscussionID()), 1) + "\n\n" + c.line + "\n"
			_, err := focusgroup.Import(t.Context(), log.Store, focusgroup.ReadRecording(strings.NewReader(recording)))
			var wrong *focusgroup.RecordingError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, 3, wrong.Line, err)
			require.Equal(t, c.field, strings.ToLower(wrong.Field), err)
			require.ErrorContains(t, err, c.reason)
			require.ErrorContains(t, err, "line 3")
		})
	}
	_, err := log.Head(t.Context(), "discussion-x")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
}

// Lines with large metadata are legal; their appends are cut to the limit.
func TestImportOfLargeMetadata(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	var recording bytes.Buffer
	for i := range 400 {
		recording.WriteString(strings.Replace(goodLine, `"version":1`, fmt.Sprintf(`"version":%d,"metadata":{"topic":"%s"}`, i+1, strings.Repeat("x", 60<<10)), 1) + "\n")
	}
	imported, err := focusgroup.Import(t.Context(), log.Store, focusgroup.ReadRecording(&recording))
	require.NoError(t, err)
	require.Equal(t, 400, imported.Events)
}

func TestImportInATransactionIsAllOrNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	recording := goodLine + "\n" + strings.Replace(goodLine, "discussion-x", "discussion-y", 1) + "\n{}\n"
	tx, err := log.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = focusgroup.Import(t.Context(), log.WithTx(tx), focusgroup.ReadRecording(strings.NewReader(recording)))
	require.Error(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Empty(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})))
}

// A recording of any length streams: what is read stays bounded, and the reader's own error comes through.
func TestReadErrorsComeThrough(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is gone")
	lines := 0
	var last error
	for _, err := range focusgroup.ReadRecording(io.MultiReader(strings.NewReader(goodLine+"\n"), &failingReader{broken})) {
		if last = err; err == nil {
			lines++
		}
	}
	require.Equal(t, 1, lines)
	require.ErrorIs(t, last, broken)
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }

// Every developer recording imports, reads back and exports; export, import, export gives the same bytes.
func TestRealRecordings(t *testing.T) {
	t.Parallel()
	corpustest.EachRecording(t, func(t *testing.T, path string) {
		t.Parallel()
		file, err := os.Open(path)
		require.NoError(t, err)
		defer func() { require.NoError(t, file.Close()) }()
		first, second := newLog(t), newLog(t)
		started := time.Now()
		imported, err := focusgroup.Import(t.Context(), first.Store, corpus.Read(file))
		require.NoError(t, err)
		took := time.Since(started)
		once := export(t, first)
		require.Equal(t, imported.Events, bytes.Count(once, []byte("\n")))
		again, err := focusgroup.Import(t.Context(), second.Store, focusgroup.ReadRecording(bytes.NewReader(once)))
		require.NoError(t, err)
		require.Equal(t, imported.Events, again.Events)
		require.True(t, bytes.Equal(once, export(t, second)), "export, import, export")

		streams := map[eventstore.StreamID]int{}
		for event, err := range first.All(t.Context(), 0, eventstore.Filter{}) {
			require.NoError(t, err)
			streams[event.StreamID]++
		}
		require.Len(t, streams, imported.Streams)
		for id, events := range streams {
			d, err := focusgroup.Load(t.Context(), first.Store, id)
			require.NoError(t, err)
			require.EqualValues(t, events, d.Version)
			require.Equal(t, focusgroup.StatusEnded, d.Status)
			require.Equal(t, events-2, len(d.TurnOrder))
			require.Equal(t, events-2, d.Responses+d.Followups)
		}
		t.Logf("%d events of %d discussions imported in %.1f s", imported.Events, imported.Streams, took.Seconds())
	})
}

// FuzzReadRecording: any bytes give lines or one error at the end; every line that is read survives being written and
// read again.
func FuzzReadRecording(f *testing.F) {
	f.Add([]byte(goodLine))
	f.Add([]byte(goodLine + "\n" + strings.Replace(goodLine, `"version":1`, `"version":2,"id":"0190f5c2-0000-7000-8000-000000000000","metadata":{"actor":"a","x":[1]}`, 1)))
	f.Add([]byte("\n\n{}"))
	f.Add([]byte{0x1f, 0x8b, 0})
	f.Fuzz(func(t *testing.T, recording []byte) {
		var lines []focusgroup.Line
		var last error
		for line, err := range focusgroup.ReadRecording(bytes.NewReader(recording)) {
			require.NoError(t, last)
			if last = err; err == nil {
				lines = append(lines, line)
			}
		}
		var out bytes.Buffer
		n, err := focusgroup.Export(&out, recordedOf(t, lines))
		require.NoError(t, err)
		require.Equal(t, len(lines), n)
		i := 0
		for line, err := range focusgroup.ReadRecording(bytes.NewReader(out.Bytes())) {
			require.NoError(t, err)
			want := lines[i]
			require.Equal(t, want.StreamID, line.StreamID)
			require.Equal(t, want.Version, line.Version)
			require.True(t, want.Event.OccurredAt.Equal(line.Event.OccurredAt))
			require.Equal(t, want.Event.Metadata.Actor, line.Event.Metadata.Actor)
			i++
		}
		require.Equal(t, len(lines), i)
	})
}

// recordedOf turns lines into events as a log would give them.
func recordedOf(t *testing.T, lines []focusgroup.Line) func(func(eventstore.Recorded, error) bool) {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, line := range lines {
			raw, ok := line.Event.Data.(eventstore.Raw)
			require.True(t, ok)
			metadata, err := line.Event.Metadata.MarshalJSON()
			if err != nil {
				continue
			}
			if line.Event.ID == uuid.Nil {
				line.Event.ID = uuid.New()
			}
			if !yield(eventstore.Recorded{
				StreamID: line.StreamID, Version: line.Version, ID: line.Event.ID, Type: raw.Type, SchemaVersion: raw.SchemaVersion,
				OccurredAt: line.Event.OccurredAt, JSON: raw.JSON, MetadataJSON: metadata,
			}, nil) {
				return
			}
		}
	}
}
