package analytics_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/projection/analytics"
)

// PostgreSQL takes CET and the like for abbreviations, in summer too: days would be others than Go's.
func TestTimeZonesThatAreAbbreviations(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	for _, zone := range []string{"CET", "EET", "MET", "WET", "EST", "EST5EDT", "GMT", "Local", "Poland", "Europe/Nowhere"} {
		_, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
		require.ErrorIs(t, err, eventstore.ErrInvalid, zone)
	}
	_, err := analytics.New(log.Store, analytics.Config{TimeZone: "CET"})
	require.ErrorContains(t, err, "abbreviation")
	for _, zone := range []string{"", "UTC", "Europe/Warsaw", "Etc/GMT+5"} {
		_, err := analytics.New(log.Store, analytics.Config{TimeZone: zone})
		require.NoError(t, err, zone)
	}
}

// A codec that makes something else of the vocabulary's events would make a star without rows, which agrees with itself.
func TestAStoreWithoutTheVocabularysCodec(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema()})
	require.NoError(t, err)
	_, err = analytics.New(store, analytics.Config{})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, "Codec")

	for i, data := range []any{
		focusgroup.UserRegistered{UserID: "u"},
		focusgroup.ProjectCreated{ProjectID: "p"},
		focusgroup.PersonaCreated{PersonaID: "a"},
		focusgroup.PersonaEdited{PersonaID: "a"},
		focusgroup.DiscussionStarted{Title: "x"},
		focusgroup.Response{Text: "x"},
		focusgroup.Followup{Text: "x"},
		focusgroup.DiscussionEnded{Reason: "x"},
		focusgroup.SurveyCompleted{SurveyID: "s"},
	} {
		occurs(t, log, eventstore.StreamID(fmt.Sprint("some-", i)), noon(1), data)
	}
	codec, err := eventstore.NewCodec(
		eventstore.Type[own[[1]int]](focusgroup.TypeUserRegistered), eventstore.Type[own[[2]int]](focusgroup.TypeProjectCreated),
		eventstore.Type[own[[3]int]](focusgroup.TypePersonaCreated), eventstore.Type[own[[4]int]](focusgroup.TypePersonaEdited),
		eventstore.Type[own[[5]int]](focusgroup.TypeDiscussionStarted), eventstore.Type[own[[6]int]](focusgroup.TypeResponse),
		eventstore.Type[own[[7]int]](focusgroup.TypeFollowup), eventstore.Type[own[[8]int]](focusgroup.TypeDiscussionEnded),
		eventstore.Type[own[[9]int]](focusgroup.TypeSurveyCompleted))
	require.NoError(t, err)
	store, err = eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: codec})
	require.NoError(t, err)
	star, err := analytics.New(store, analytics.Config{})
	require.NoError(t, err)
	runner := runUntilSettled(t, &eventstoretest.Log{Store: store, Pool: log.Pool}, star)
	parked, err := runner.Parked(t.Context(), "analytics", 100)
	require.NoError(t, err)
	require.Len(t, parked, 9)
	for _, p := range parked {
		require.Contains(t, p.Error, "does not know the vocabulary")
	}
}

// own are types that the vocabulary's codec does not make.
type own[T any] struct {
	Of T `json:"-"`
}

// Events whose key was erased are parked; a star of a log with many of them is built all the same.
func TestMoreErasedStreamsThanMayBeParked(t *testing.T) {
	t.Parallel()
	var erased sync.Map
	log := eventstoretest.New(t, eventstore.Config{Codec: focusgroup.Codec(), Cipher: erasable(&erased)})
	const streams = 101
	for i := range streams {
		id := eventstore.StreamID(fmt.Sprint("discussion-", i))
		occurs(t, log, id, noon(1), focusgroup.Response{PersonaID: "a", Text: "x"})
		erased.Store(string(id), true)
	}
	occurs(t, log, "discussion-last", noon(1), focusgroup.Response{PersonaID: "a", Text: "x"})
	star, err := analytics.New(log.Store, analytics.Config{MaxParkedKeys: streams})
	require.NoError(t, err)
	runner := runUntilSettled(t, log, star)
	parked, err := runner.Parked(t.Context(), "analytics", 2*streams)
	require.NoError(t, err)
	require.Len(t, parked, streams)
	require.Len(t, readTable(t, log, "fact_discussion_turns"), 1)
}

// Another configuration under the same Version is noticed, says what differs, and parks nothing.
func TestAnotherConfigurationNeedsAnotherVersion(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	appendWorld(t, log)
	fact := analytics.Fact{
		Name: "fact_mine", Grain: "Mine.", Types: []string{focusgroup.TypeResponse}, Rows: func(eventstore.Recorded) ([]analytics.Row, error) { return nil, nil },
		Columns: []analytics.Column{{Name: "n", Type: "integer", Comment: "x"}},
	}
	builtStar(t, log, analytics.Config{Facts: []analytics.Fact{fact}})
	prepare := func(change func(*analytics.Config, *analytics.Fact)) error {
		config, mine := analytics.Config{}, fact
		change(&config, &mine)
		config.Facts = append(config.Facts, mine)
		star, err := analytics.New(log.Store, config)
		require.NoError(t, err)
		return star.Prepare(t.Context(), &projection.Batch{})
	}
	require.NoError(t, prepare(func(*analytics.Config, *analytics.Fact) {}))
	for want, change := range map[string]func(*analytics.Config, *analytics.Fact){
		`TimeZone was "UTC" and is "Europe/Warsaw"`: func(c *analytics.Config, _ *analytics.Fact) { c.TimeZone = "Europe/Warsaw" },
		"Health was":               func(c *analytics.Config, _ *analytics.Fact) { c.Health.Recency = 9 },
		"dim_personas.band is new": func(c *analytics.Config, _ *analytics.Fact) { c.Attributes = band().Attributes },
		`fact_mine.n was "integer" and is "bigint"`: func(_ *analytics.Config, f *analytics.Fact) {
			f.Columns = []analytics.Column{{Name: "n", Type: "bigint", Comment: "x"}}
		},
		"fact_mine.n is gone": func(_ *analytics.Config, f *analytics.Fact) { f.Columns = nil },
		`fact_mine was "of response, Lines false" and is "of `: func(_ *analytics.Config, f *analytics.Fact) { f.Types = []string{focusgroup.TypeFollowup} },
	} {
		err := prepare(change)
		require.ErrorIs(t, err, eventstore.ErrInvalid, want)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "needs another Version")
	}

	// What AddColumn has added is declared by the code to come, and is not by the one in use.
	mine := fact
	mine.Columns = append([]analytics.Column{}, append(fact.Columns, analytics.Column{Name: "m", Type: "integer", Comment: "x"})...)
	star, err := analytics.New(log.Store, analytics.Config{Facts: []analytics.Fact{mine}})
	require.NoError(t, err)
	require.NoError(t, star.AddColumn(t.Context(), "fact_mine", "m", analytics.Backfill{}))
	require.NoError(t, star.Prepare(t.Context(), &projection.Batch{}))
	require.NoError(t, prepare(func(*analytics.Config, *analytics.Fact) {}))

	other, err := analytics.New(log.Store, analytics.Config{TimeZone: "Europe/Warsaw", Facts: []analytics.Fact{fact}})
	require.NoError(t, err)
	appendAt(t, log, "discussion-8", smallWorld(), focusgroup.Response{PersonaID: "a1", Text: "x"})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	failed := make(chan error, 100)
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{other}, Hooks: projection.Hooks{Batch: func(b projection.BatchInfo) {
		select {
		case failed <- b.Err:
		default:
		}
	}}})
	require.NoError(t, err)
	running, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	for range 2 { // it is tried again
		require.ErrorIs(t, <-failed, eventstore.ErrInvalid)
	}
	parked, err := runner.Parked(ctx, "analytics", 10)
	require.NoError(t, err)
	require.Empty(t, parked)
	leave()
	require.NoError(t, <-ended)
	require.Len(t, readTable(t, log, "fact_discussion_turns"), 18)
}
