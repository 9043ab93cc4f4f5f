package replay

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// The costs that doc.go states: the log is read ahead where its order is much the player's, and given up where too many events
// would wait for their time.
func TestReadingAheadIsForLogsThatLieInOrder(t *testing.T) {
	t.Parallel()
	log := eventstoretest.New(t, eventstore.Config{})
	const streams, length = 12, 1000
	start := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	write := func(id eventstore.StreamID, from, n int) {
		events := make([]any, n)
		for i := range events {
			at := start.Add(time.Duration(from+i) * time.Second)
			events[i] = eventstore.Event{Data: eventstore.Raw{Type: "x", JSON: []byte(`{}`)}, OccurredAt: at}
		}
		_, err := log.Append(t.Context(), id, eventstore.Any, events...)
		require.NoError(t, err)
	}
	var together, apart []eventstore.StreamID
	for i := range streams {
		together = append(together, eventstore.StreamID(fmt.Sprint("together-", i)))
		apart = append(apart, eventstore.StreamID(fmt.Sprint("apart-", i)))
	}
	for from := 0; from < length; from += 100 {
		for _, id := range together {
			write(id, from, 100)
		}
	}
	for _, id := range apart { // at the same time, and one after the other in the log
		write(id, 0, length)
	}
	for name, ids := range map[string][]eventstore.StreamID{"together": together, "apart": apart} {
		p, err := Open(t.Context(), log.Store, Config[struct{}]{}, ids...)
		require.NoError(t, err)
		f, played, waiting := p.track.feed, 0, 0
		require.NoError(t, p.Play(t.Context(), func(context.Context, Step[struct{}]) error {
			played++
			waiting = max(waiting, f.mine-len(p.track.index))
			return nil
		}))
		require.Equal(t, streams*length, played)
		require.True(t, f.off)
		if name == "together" {
			require.Equal(t, played, f.mine, "all came from the log")
			require.Less(t, waiting, 2*pageEvents+100*streams)
		} else {
			require.Less(t, f.mine, played)
			require.LessOrEqual(t, waiting, maxAhead+pageEvents)
		}
	}
}
