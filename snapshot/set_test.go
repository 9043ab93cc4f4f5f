package snapshot_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/snapshot"
)

func setOf(t testing.TB, loader *snapshot.Loader[diary], set snapshot.Set, at snapshot.At) map[eventstore.StreamID]int {
	t.Helper()
	states := map[eventstore.StreamID]int{}
	for found, err := range loader.AsOfSet(t.Context(), set, at) {
		require.NoError(t, err)
		require.NotContains(t, states, found.StreamID)
		states[found.StreamID] = len(found.State.Texts)
	}
	return states
}

// A project's streams are shown at one point, whatever commits meanwhile.
func TestTheStatesOfASet(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	loader := newLoader(t, log, diaryFold(), snapshot.Config{Every: 2})
	begin := func(id eventstore.StreamID, project string) eventstore.Receipt {
		t.Helper()
		receipt, err := log.Append(ctx, id, eventstore.NoStream, eventstore.Event{Data: note{"begun"}, Project: project})
		require.NoError(t, err)
		return receipt
	}
	const streams = 250 // more than a page
	var half eventstore.Receipt
	for i := range streams {
		receipt := begin(eventstore.StreamID(fmt.Sprintf("a-%d", i)), "spring")
		if i == streams/2-1 {
			half = receipt
		}
	}
	begin("a-other", "autumn")
	begin("b-1", "spring")
	begin("ab-1", "spring")
	write(t, log, "a-7", 3)
	spring := snapshot.Set{Project: "spring"}
	require.Len(t, setOf(t, loader, spring, snapshot.At{}), streams+2)
	require.Len(t, setOf(t, loader, snapshot.Set{Category: "a"}, snapshot.At{}), streams+1)
	now := setOf(t, loader, snapshot.Set{Project: "spring", Category: "a"}, snapshot.At{})
	require.Len(t, now, streams)
	require.Equal(t, 4, now["a-7"])
	for _, at := range []snapshot.At{{Position: half.Position()}, {Recorded: half.RecordedAt}} {
		then := setOf(t, loader, spring, at)
		require.Len(t, then, streams/2, "%+v", at)
		require.Equal(t, 1, then["a-7"])
	}
	require.Empty(t, setOf(t, loader, snapshot.Set{Project: "nobody's"}, snapshot.At{}))

	seen := 0
	for found, err := range loader.AsOfSet(ctx, snapshot.Set{Category: "a"}, snapshot.At{}) {
		require.NoError(t, err)
		if seen == 0 { // after the first page
			write(t, log, "a-99", 1)
		}
		if seen++; found.StreamID == "a-99" {
			require.Len(t, found.State.Texts, 1)
		}
	}
	require.Equal(t, streams+1, seen)
	for _, wrong := range []struct {
		set snapshot.Set
		at  snapshot.At
	}{{}, {set: spring, at: snapshot.At{Version: 3}}, {set: snapshot.Set{Category: "a-b"}}, {set: spring, at: snapshot.At{Position: -1}}} {
		for _, err := range loader.AsOfSet(ctx, wrong.set, wrong.at) {
			require.ErrorIs(t, err, eventstore.ErrInvalid, "%+v", wrong)
		}
	}
	for _, err := range loader.AsOfSet(ctx, spring, snapshot.At{Recorded: time.Now().Add(time.Hour)}) {
		require.ErrorIs(t, err, snapshot.ErrFuture)
	}
}

// The history of a field names the events that changed it, and the comparison of two points agrees with it.
func TestTheHistoryOfAField(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	ctx := t.Context()
	loader := newLoader(t, log, diaryFold(), snapshot.Config{})
	write(t, log, "a-1", 4)
	type change struct {
		version eventstore.Version
		text    string
	}
	history := func(pointer string) (changes []change) {
		for c, err := range loader.History(ctx, "a-1", pointer) {
			require.NoError(t, err)
			changes = append(changes, change{c.Event.Version, c.String()})
		}
		return changes
	}
	require.Equal(t, []change{{3, `/texts/2: + "3:2"`}}, history("/texts/2"))
	require.Equal(t, []change{{1, `/texts: null → ["1:0"]`}}, history("/texts")[:1])
	require.Len(t, history(""), 4)
	require.Empty(t, history("/nothing/0"))
	require.Empty(t, history("/texts/x"))
	for _, err := range loader.History(ctx, "a-1", "texts") {
		require.ErrorIs(t, err, eventstore.ErrInvalid)
	}
	for _, err := range loader.History(ctx, "nobody-1", "/texts") {
		require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	}
	changes, err := loader.Compare(ctx, "a-1", snapshot.At{Version: 2}, snapshot.At{})
	require.NoError(t, err)
	require.Len(t, changes, 2)
	require.Equal(t, `/texts/2: + "3:2"`, changes[0].String())
	changes, err = loader.Compare(ctx, "a-1", snapshot.At{Version: 3}, snapshot.At{Version: 2})
	require.NoError(t, err)
	require.Equal(t, `/texts/2: - "3:2"`, changes[0].String())
	events := eventstoretest.Collect(t, log.Stream(ctx, "a-1", 0))
	require.Len(t, events, 4)
}
