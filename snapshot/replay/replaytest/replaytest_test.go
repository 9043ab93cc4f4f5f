package replaytest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/snapshot/replay/replaytest"
)

// witness is a testing.TB that keeps the failures to itself.
type witness struct {
	testing.TB
	said string
}

func (w *witness) Helper()                           {}
func (w *witness) Fatal(args ...any)                 { w.said += fmt.Sprint(args...); runtime.Goexit() }
func (w *witness) Fatalf(format string, args ...any) { w.Fatal(fmt.Sprintf(format, args...)) }

// failure is how a replay fails; empty if it does not.
func failure(t *testing.T, path string, handle func(context.Context, eventstore.Recorded) error) string {
	t.Helper()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	w := &witness{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		replaytest.Recording(w, log.Store, path, handle)
	}()
	<-done
	return w.said
}

func recording(t *testing.T, lines string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recording.ndjson")
	require.NoError(t, os.WriteFile(path, []byte(lines), 0o600))
	return path
}

func line(stream string, version int, kind, time string) string {
	return fmt.Sprintf(`{"recording":1,"stream":"discussion-%s","version":%d,"type":%q,"occurred_at":%q,"data":{"text":"hi"}}`+"\n",
		stream, version, kind, time)
}

func twoDiscussions() string {
	return line("x", 1, "response", "2026-03-01T09:00:00Z") + line("y", 1, "response", "2026-02-01T09:00:00Z") +
		line("x", 2, "followup", "2026-03-01T09:00:01Z")
}

func TestARecordingIsReplayedDiscussionByDiscussion(t *testing.T) {
	t.Parallel()
	path := recording(t, twoDiscussions())
	var got []string
	require.Empty(t, failure(t, path, func(_ context.Context, e eventstore.Recorded) error {
		got = append(got, fmt.Sprintf("%s/%d %s", e.StreamID, e.Version, e.Type))
		return nil
	}))
	require.Equal(t, []string{"discussion-x/1 response", "discussion-x/2 followup", "discussion-y/1 response"}, got)

	said := failure(t, path, func(_ context.Context, e eventstore.Recorded) error {
		if e.Type == focusgroup.TypeFollowup {
			return errors.New("no follow-ups here")
		}
		return nil
	})
	require.Contains(t, said, "discussion-x version 2 (followup): no follow-ups here")
	nothing := func(context.Context, eventstore.Recorded) error { return nil }
	require.Contains(t, failure(t, recording(t, ""), nothing), "holds no events")
	require.Contains(t, failure(t, recording(t, "{}"), nothing), "importing")
	require.Contains(t, failure(t, filepath.Join(t.TempDir(), "none"), nothing), "no such file")
}

// A file of the corpus, folded by a handler as a service would.
func TestARealRecording(t *testing.T) {
	t.Parallel()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	states := map[eventstore.StreamID]*focusgroup.Discussion{}
	path := filepath.Join(corpustest.Recordings(t), "qmsum_committee_val.ndjson.gz")
	replaytest.Recording(t, log.Store, path, func(_ context.Context, e eventstore.Recorded) error {
		if states[e.StreamID] == nil {
			states[e.StreamID] = &focusgroup.Discussion{}
		}
		return states[e.StreamID].Apply(e)
	})
	require.NotEmpty(t, states)
	for id, state := range states {
		want, err := focusgroup.Load(t.Context(), log.Store, id)
		require.NoError(t, err)
		require.Equal(t, want, state)
		require.Equal(t, focusgroup.StatusEnded, state.Status)
	}
}

func TestClockJumps(t *testing.T) {
	t.Parallel()
	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	clock := replaytest.NewClock(noon)
	fired, release := clock.Timer(time.Hour)
	require.Equal(t, noon.Add(time.Hour), <-fired)
	release()
	require.Equal(t, noon.Add(2*time.Hour), clock.Advance(time.Hour))
	require.Equal(t, noon.Add(2*time.Hour), clock.Now())
}
