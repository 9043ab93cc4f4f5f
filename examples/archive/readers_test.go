package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/partition"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/snapshot"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

// said keeps each turn that it is given, in order.
type said struct {
	version int
	table   string // where they are
}

func (s *said) Spec() projection.Spec {
	return projection.Spec{
		Name: "said", Version: s.version,
		Tables: []projection.Table{{Name: "said", SQL: `CREATE TABLE {{table}} (n bigint GENERATED ALWAYS AS IDENTITY, position bigint, type text, body text)`}},
	}
}

func (s *said) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) error {
	s.table = batch.Table("said")
	rows := make([][]any, len(batch.Events))
	for i, e := range batch.Events {
		rows[i] = []any{int64(e.Position), e.Type, string(e.JSON)}
	}
	return batch.Copy(ctx, tx, "said", []string{"position", "type", "body"}, rows)
}

// views are what the packages above the log make of it.
type views struct {
	Rebuilt  []string
	Replayed []string
	Then     map[string]*focusgroup.Discussion
}

func viewsOf(t *testing.T, store *eventstore.Store, version int, id eventstore.StreamID, half time.Time) views {
	t.Helper()
	ctx := t.Context()
	turns := &said{version: version}
	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{turns}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(ctx))
	require.NoError(t, runner.CatchUp(ctx))
	rows, err := store.Pool().Query(ctx, `SELECT position || ' ' || type || ' ' || body FROM `+turns.table+` ORDER BY n`)
	require.NoError(t, err)
	v := views{Then: map[string]*focusgroup.Discussion{}}
	v.Rebuilt, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)

	player, err := replay.Open(ctx, store, replay.Config[*focusgroup.Discussion]{Fold: fold()}, id)
	require.NoError(t, err)
	require.NoError(t, player.Play(ctx, func(_ context.Context, step replay.Step[*focusgroup.Discussion]) error {
		v.Replayed = append(v.Replayed, step.At.String()+" "+step.Event.Type+" "+string(step.Event.JSON))
		return nil
	}))

	loader, err := snapshot.NewLoader(store, fold(), snapshot.Config{})
	require.NoError(t, err)
	for name, at := range map[string]snapshot.At{"version": {Version: 10}, "recorded": {Recorded: half}, "occurred": {Occurred: half}} {
		then, err := loader.AsOf(ctx, id, at)
		require.NoError(t, err, name)
		v.Then[name] = then.State
	}
	return v
}

// Rebuilds, replays and time travel go on into a month that is archived, and end with its name without the archive.
func TestRebuildsReplaysAndTimeTravelGoOnIntoTheArchive(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	first, err := fill(ctx, log.Store, command.Recordings())
	require.NoError(t, err)
	require.NoError(t, snapshot.Migrate(ctx, log.Store))
	whole, err := focusgroup.Load(ctx, log.Store, first.StreamID)
	require.NoError(t, err)
	half := whole.StartedAt.Add(whole.LastAt.Sub(whole.StartedAt) / 2)
	before := viewsOf(t, log.Store, 1, first.StreamID, half)
	require.NotEmpty(t, before.Rebuilt)
	require.NotEmpty(t, before.Replayed)

	dir := t.TempDir()
	blob, err := partition.NewDir(filepath.Join(dir, "log"))
	require.NoError(t, err)
	months := monthsOf(t, log, blob)
	state, err := months.Archive(ctx, first.RecordedAt)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)

	cold, err := partition.NewCold(blob, filepath.Join(dir, "cache"), 0)
	require.NoError(t, err)
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: focusgroup.Codec(), Cold: cold})
	require.NoError(t, err)
	require.Equal(t, before, viewsOf(t, store, 2, first.StreamID, half))

	loader, err := snapshot.NewLoader(log.Store, fold(), snapshot.Config{})
	require.NoError(t, err)
	for name, at := range map[string]snapshot.At{"version": {Version: 10}, "recorded": {Recorded: half}, "occurred": {Occurred: half}} {
		_, err := loader.AsOf(ctx, first.StreamID, at)
		require.ErrorIs(t, err, eventstore.ErrArchived, name)
	}
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{&said{version: 3}}})
	require.NoError(t, err)
	err = runner.CatchUp(ctx)
	require.ErrorIs(t, err, eventstore.ErrArchived, "a rebuild that cannot go on ends")
	require.ErrorContains(t, err, first.RecordedAt.Format("2006-01"))
	player, err := replay.Open(ctx, log.Store, replay.Config[*focusgroup.Discussion]{Fold: fold()}, first.StreamID)
	if err == nil {
		err = player.Play(ctx, func(context.Context, replay.Step[*focusgroup.Discussion]) error { return nil })
	}
	require.ErrorIs(t, err, eventstore.ErrArchived)
	require.ErrorContains(t, err, first.RecordedAt.Format("2006-01"))
}

// refusing cannot apply anything.
type refusing struct{ said }

func (r *refusing) Apply(context.Context, pgx.Tx, *projection.Batch) error {
	return errors.New("refused")
}

// A month with parked events stays until they are done, or nobody wants them.
func TestParkedEventsHoldTheirMonth(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
	first, err := fill(ctx, log.Store, command.Recordings())
	require.NoError(t, err)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{&refusing{said{version: 1}}}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(ctx))
	require.NoError(t, runner.CatchUp(ctx))
	blob, err := partition.NewDir(t.TempDir())
	require.NoError(t, err)
	months := monthsOf(t, log, blob)
	_, err = months.Archive(ctx, first.RecordedAt)
	var notYet *partition.NotYetError
	require.ErrorAs(t, err, &notYet)
	require.Len(t, notYet.Behind, 1)
	require.Equal(t, "said", notYet.Behind[0].Name)
	require.True(t, notYet.Behind[0].Parked)
	require.NoError(t, months.Release(ctx, "said", 1, "an experiment"))
	state, err := months.Archive(ctx, first.RecordedAt)
	require.NoError(t, err)
	require.Equal(t, partition.Dropped, state)
}

// monthsOf looks after the months of a log.
func monthsOf(t *testing.T, log *eventstoretest.Log, blob partition.Blob) *partition.Months {
	t.Helper()
	direct, done, err := command.Direct(t.Context(), log)
	require.NoError(t, err)
	t.Cleanup(done)
	months, err := partition.New(direct, partition.Config{Archive: blob, Quarantine: time.Nanosecond})
	require.NoError(t, err)
	require.NoError(t, months.Migrate(t.Context()))
	return months
}
