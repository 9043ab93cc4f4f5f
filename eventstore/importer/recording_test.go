package importer_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/eventstore/importer"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

// recordingOf is a recording of discussions whose lines are mixed, every third without an id.
func recordingOf(discussions, turns int) string {
	var out strings.Builder
	for v := 1; v <= turns; v++ {
		for d := range discussions {
			id := ""
			if (v+d)%3 > 0 {
				id = fmt.Sprintf(`"id":"00000000-0000-4000-8000-%06d%06d",`, d, v)
			}
			body := `"type":"response","occurred_at":"2026-01-02T03:04:05Z","data":{"text":"turn"}`
			if v == 1 {
				body = fmt.Sprintf(`"type":"discussion_started","occurred_at":"2026-01-02T03:04:04Z","data":{"project_id":"p%d"}`, d)
			}
			fmt.Fprintf(&out, `{"recording":1,"stream":"discussion-%d","version":%d,%s%s}`+"\n\n", d, v, id, body)
		}
	}
	return out.String()
}

func focusgroupLog(t *testing.T) *eventstoretest.Log {
	t.Helper()
	return eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
}

func export(t *testing.T, log *eventstoretest.Log) string {
	t.Helper()
	var out bytes.Buffer
	_, err := focusgroup.Export(&out, log.All(testContext(t), 0, eventstore.Filter{}))
	require.NoError(t, err)
	return out.String()
}

func TestRecording(t *testing.T) {
	t.Parallel()
	log := focusgroupLog(t)
	ctx := testContext(t)
	recording := recordingOf(20, 30)
	var seen []int64
	config := importer.RecordingConfig{BatchEvents: 70, Progress: func(r eventstore.ImportReport) { seen = append(seen, r.Events+r.Existing) }}

	part := recording[:strings.Index(recording, `"version":11,`)]
	part = part[:strings.LastIndex(part, "\n")+1]
	report, err := importer.FromRecording(ctx, log.Store, focusgroup.ReadRecording(strings.NewReader(part)), config)
	require.NoError(t, err)
	require.EqualValues(t, 200, report.Events)
	require.Equal(t, []int64{70, 140, 200}, seen)
	report, err = importer.FromRecording(ctx, log.Store, focusgroup.ReadRecording(strings.NewReader(recording)), config)
	require.NoError(t, err)
	require.Equal(t, eventstore.ImportCounts{Events: 400, Existing: 200}, report.ImportCounts, "what is there is recognised, with and without ids")
	discussion, err := focusgroup.Load(ctx, log.Store, "discussion-7")
	require.NoError(t, err)
	require.Equal(t, "p7", discussion.ProjectID)
	require.EqualValues(t, 30, discussion.Version)
	head, err := log.Head(ctx, "discussion-7")
	require.NoError(t, err)
	require.Equal(t, "p7", head.Project)

	other := focusgroupLog(t)
	exported := export(t, log)
	report, err = importer.FromRecording(ctx, other.Store, focusgroup.ReadRecording(strings.NewReader(exported)), config)
	require.NoError(t, err)
	require.EqualValues(t, 600, report.Events)
	require.Equal(t, exported, export(t, other), "byte for byte")
}

func TestRecordingLinesThatAreRefused(t *testing.T) {
	t.Parallel()
	log := focusgroupLog(t)
	good := recordingOf(1, 3)
	_, err := importer.FromRecording(testContext(t), log.Store, focusgroup.ReadRecording(strings.NewReader(good)), importer.RecordingConfig{})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		old, new, field, reason string
		want                    error
	}{
		"another id":         {`000000000002`, `000000000009`, "", "another event", eventstore.ErrVersionDiffers},
		"a gap":              {`"version":3`, `"version":5`, "", "version 3 is the next", eventstore.ErrVersionGap},
		"a body that is not": {`"text":"turn"`, `"text":7`, "data.text", "cannot unmarshal", eventstore.ErrBadBody},
		"an unknown type":    {`"response"`, `"shout"`, "type", "unknown", eventstore.ErrUnknownType},
		"a limit":            {`2026-01-02T03:04:05Z`, `1066-01-02T03:04:05Z`, "occurred_at", "outside", eventstore.ErrInvalid},
		"no JSON":            {`{"text":"turn"}`, `{`, "", "unexpected end", nil},
	} {
		t.Run(name, func(t *testing.T) {
			at := strings.LastIndex(good, c.old)
			recording := good[:at] + c.new + good[at+len(c.old):]
			_, err := importer.FromRecording(testContext(t), log.Store, focusgroup.ReadRecording(strings.NewReader(recording)), importer.RecordingConfig{})
			var wrong *focusgroup.RecordingError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, 1+strings.Count(recording[:at], "\n"), wrong.Line)
			require.Equal(t, c.field, wrong.Field)
			require.ErrorContains(t, err, c.reason)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
		})
	}
	require.Len(t, eventstoretest.Collect(t, log.All(testContext(t), 0, eventstore.Filter{})), 3)
}

// Every recording of the corpus is imported, exported, imported again into another log, byte for byte, and into its own
// as nothing new.
func TestRecordingsOfTheCorpus(t *testing.T) {
	t.Parallel()
	corpustest.EachRecording(t, func(t *testing.T, path string) {
		file, err := os.Open(path)
		require.NoError(t, err)
		defer func() { require.NoError(t, file.Close()) }()
		first, second := focusgroupLog(t), focusgroupLog(t)
		report, err := importer.FromRecording(testContext(t), first.Store, corpus.Read(file), importer.RecordingConfig{})
		require.NoError(t, err)
		recording := export(t, first)
		require.EqualValues(t, report.Events, strings.Count(recording, "\n"))
		for log, want := range map[*eventstoretest.Log]eventstore.ImportCounts{first: {Existing: report.Events}, second: {Events: report.Events}} {
			again, err := importer.FromRecording(testContext(t), log.Store, focusgroup.ReadRecording(strings.NewReader(recording)), importer.RecordingConfig{})
			require.NoError(t, err)
			require.Equal(t, want, again.ImportCounts)
			require.True(t, recording == export(t, log), "byte for byte")
		}
		t.Logf("%d events", report.Events)
	})
}
