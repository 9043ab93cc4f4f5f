package eventstore_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Guarantee 2: an append whose last event the database refuses leaves nothing of the others, in a stream that was there
// and in one that was not, and the stream goes on where it stood.
func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{})
	taken := uuid.Must(uuid.NewV7())
	log.append(t, "a-1", eventstore.NoStream, eventstore.Event{ID: taken, Data: note{"1"}})
	for id, want := range map[eventstore.StreamID]error{"a-1": eventstore.ErrPartialRetry, "b-1": eventstore.ErrDuplicateID} {
		_, err := log.Append(t.Context(), id, eventstore.Any, note{"2"}, note{"3"}, eventstore.Event{ID: taken, Data: note{"4"}})
		require.ErrorIs(t, err, want)
	}
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), 1)
	_, err := log.Head(t.Context(), "b-1")
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	require.EqualValues(t, 2, log.append(t, "a-1", eventstore.AtVersion(1), note{"2"}).Version)
	settled, err := log.Settled(t.Context())
	require.NoError(t, err)
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})), 2)
	require.Greater(t, settled, eventstore.Position(2), "the refused positions are a hole that holds nobody back")
}
