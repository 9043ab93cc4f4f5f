package analytics_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

func newLog(t testing.TB) *eventstoretest.Log {
	t.Helper()
	return eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec()})
}

// build runs a star over all that the log holds.
func build(t testing.TB, log *eventstoretest.Log, config analytics.Config) *analytics.Star {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	star, err := analytics.New(log.Store, config)
	require.NoError(t, err)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{star}})
	require.NoError(t, err)
	require.NoError(t, runner.Migrate(ctx))
	running, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	settled, err := log.Settled(ctx)
	require.NoError(t, err)
	require.NoError(t, runner.WaitFor(ctx, "analytics", settled))
	leave()
	require.NoError(t, <-ended)
	parked, err := runner.Parked(ctx, "analytics", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
	return star
}

func TestTheStarOfARealRecording(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join(corpustest.Recordings(t), "qmsum_ami_train.ndjson.gz"))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	log := newLog(t)
	_, err = focusgroup.Import(t.Context(), log.Store, corpus.Read(file))
	require.NoError(t, err)
	started := time.Now()
	build(t, log, analytics.Config{})
	t.Log(time.Since(started))
	var turns, sessions, personas int
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM `+log.Schema()+`.fact_discussion_turns), (SELECT sum(responses+followups) FROM `+log.Schema()+`.fact_focus_group_sessions), (SELECT count(*) FROM `+log.Schema()+`.dim_personas WHERE NOT placeholder)`).Scan(&turns, &sessions, &personas))
	t.Log(turns, sessions, personas)
	require.Positive(t, turns)
}

func TestRefreshOfARealRecording(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join(corpustest.Recordings(t), "qmsum_committee_val.ndjson.gz"))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	log := newLog(t)
	_, err = focusgroup.Import(t.Context(), log.Store, corpus.Read(file))
	require.NoError(t, err)
	star := build(t, log, analytics.Config{})
	done, err := star.Refresh(t.Context())
	require.NoError(t, err)
	t.Log(done)
	for _, table := range []string{"daily_active_personas", "project_health_scores", "focus_group_effectiveness", "persona_diversity", "persona_evenness", "weekly_active_personas"} {
		rows, err := log.Pool.Query(t.Context(), `SELECT to_jsonb(a)::text FROM `+log.Schema()+`.`+table+` a LIMIT 2`)
		require.NoError(t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		t.Log(table, texts)
	}
}
