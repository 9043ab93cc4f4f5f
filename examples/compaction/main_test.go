package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
	"github.com/sight-platform/hindsight/internal/synthetic"
	"github.com/sight-platform/hindsight/projection"
)

const golden = `Summaries: 1, made of 39 events

Events read to show the longest discussion: 39, 28488 bytes
To show it from its summary: 1, 2325 bytes; the same: true

"One-page checkout for an outdoor shop", 14 October 2026 09:00:05 to 09:09:05, 9m16s
37 turns, 23 of them responses; 62569 tokens in, 1384 out, $0.0262
    6×   198 words  "Hannah Brooks"
    6×   163 words  "Marcus Oyelaran"
    6×   169 words  "Priya Raman"
    7×   194 words  "Tom Whitfield"
    7×   185 words  "Sofia Lindqvist"
    5×    79 words  "Ava"
    5× answered  "Think of the last time you spent more than £50 online. What happened between the basket and the confirmation?"
    5× answered  "This is the new checkout: everything on one page. What do you notice first, and what worries you?"
    4× answered  "Delivery costs appear only after you enter your postcode. How do you feel about that?"
    4× answered  "Would you create an account to save 5 %? Why, or why not?"
    5× answered  "If you could change one thing before we launch, what would it be?"
"The one page is liked for its pace, not for its silence about delivery: every participant wants the full price before the postcode or a stated maximum. The account box must not be ticked in advance. Guest checkout, wallet payments and a visible returns line carry the most weight."
Made of discussion-01a139a3-d280-7429-b69b-6e8b95b174b0, versions 1 to 39, at positions 1 to 39
SHA-256 SHA256SUM

Replayed event by event: 39 of 39, with the SHA-256 of the summary: true
`

// What the program prints, with the SHA-256 of the recording's file.
func TestProgram(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), command.Recordings()[0], &out))
	file, err := os.ReadFile(command.Recordings()[0])
	require.NoError(t, err)
	sum := sha256.Sum256(file)
	require.Equal(t, strings.Replace(golden, "SHA256SUM", hex.EncodeToString(sum[:]), 1), out.String())
}

func TestWhatIsWrong(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.ErrorIs(t, run(t.Context(), filepath.Join(folder, "nowhere.ndjson"), io.Discard), os.ErrNotExist)
	whole, err := os.ReadFile(command.Recordings()[0])
	require.NoError(t, err)
	begun := filepath.Join(folder, "begun.ndjson")
	require.NoError(t, os.WriteFile(begun, whole[:bytes.IndexByte(whole, '\n')+1], 0o600))
	require.ErrorContains(t, run(t.Context(), begun, io.Discard), "no discussion that has ended")
}

func newLog(t *testing.T) *eventstoretest.Log {
	t.Helper()
	codec, err := newCodec()
	require.NoError(t, err)
	return eventstoretest.New(t, eventstore.Config{Codec: codec})
}

// ended begins a log with one discussion, of four events, that has ended.
func ended(t *testing.T) (*eventstoretest.Log, eventstore.StreamID) {
	t.Helper()
	log, id := newLog(t), focusgroup.NewDiscussionID()
	_, err := log.Append(t.Context(), id, eventstore.NoStream,
		focusgroup.DiscussionStarted{ProjectID: "packs", Title: "Packs", Questions: []string{"What do you see?"}},
		focusgroup.Response{PersonaID: "ann", Question: "What do you see?", Text: "The green lid."},
		focusgroup.Followup{PersonaID: "bo", Question: "What do you see?", Text: "So do I."},
		focusgroup.DiscussionEnded{Reason: "completed"})
	require.NoError(t, err)
	return log, id
}

func appendTo(t *testing.T, log *eventstoretest.Log, id eventstore.StreamID, events ...any) eventstore.Receipt {
	t.Helper()
	receipt, err := log.Append(t.Context(), id, eventstore.StreamExists, events...)
	require.NoError(t, err)
	return receipt
}

func summaries(t *testing.T, log *eventstoretest.Log, id eventstore.StreamID) []eventstore.Recorded {
	t.Helper()
	return eventstoretest.Collect(t, log.Stream(t.Context(), summaryStream(id), 0))
}

// requireSummaries wants summaries of a discussion that go up to these versions.
func requireSummaries(t *testing.T, log *eventstoretest.Log, id eventstore.StreamID, upTo ...eventstore.Version) []eventstore.Recorded {
	t.Helper()
	all := summaries(t, log, id)
	var versions []eventstore.Version
	for _, s := range all {
		versions = append(versions, s.Data.(DiscussionSummarised).Source.LastVersion)
	}
	require.Equal(t, upTo, versions)
	return all
}

// sources is a digest of each column of all events but the summaries.
func sources(t *testing.T, log *eventstoretest.Log) (digest string) {
	t.Helper()
	require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT md5(string_agg(md5(e::text), '' ORDER BY position)) FROM `+
		log.Schema()+`.events e WHERE stream_id NOT LIKE 'summary-%'`).Scan(&digest))
	return digest
}

// count is what the test itself counts in the stored bytes of a discussion.
type count struct {
	turns, responses, words, tokens int
	cost, spoken                    float64
	ended                           bool
	bySpeaker, byQuestion           map[string]int
	first, last, began, endedAt     time.Time
}

func counted(t *testing.T, events []eventstore.Recorded) count {
	t.Helper()
	c := count{bySpeaker: map[string]int{}, byQuestion: map[string]int{}, began: events[0].OccurredAt}
	for _, event := range events {
		var body struct {
			PersonaID   string   `json:"persona_id"`
			ModeratorID string   `json:"moderator_id"`
			Questions   []string `json:"questions"`
			Question    string   `json:"question"`
			Text        string   `json:"text"`
			Spoken      float64  `json:"duration_seconds"`
			TokensIn    int      `json:"tokens_in"`
			TokensOut   int      `json:"tokens_out"`
			Cost        float64  `json:"cost_usd"`
		}
		require.NoError(t, json.Unmarshal(event.JSON, &body))
		c.tokens += body.TokensIn + body.TokensOut
		c.cost += body.Cost
		switch event.Type {
		case "discussion_started":
			for _, q := range body.Questions {
				c.byQuestion[q] = 0
			}
			continue
		case "discussion_ended":
			c.ended, c.endedAt = true, event.OccurredAt
			continue
		}
		c.turns++
		c.words += len(strings.Fields(body.Text))
		c.spoken += body.Spoken
		speaker := body.PersonaID
		if speaker == "" {
			speaker = body.ModeratorID
		}
		c.bySpeaker[speaker]++
		if body.Question != "" {
			c.byQuestion[body.Question] += 0
		}
		if event.Type == "response" {
			c.responses++
			if body.Question != "" {
				c.byQuestion[body.Question]++
			}
		}
		if c.turns == 1 || event.OccurredAt.Before(c.first) {
			c.first = event.OccurredAt
		}
		if event.OccurredAt.After(c.last) {
			c.last = event.OccurredAt
		}
	}
	return c
}

// requireCounted compares a summary with what the test counts itself.
func requireCounted(t *testing.T, summary eventstore.Recorded, events []eventstore.Recorded) {
	t.Helper()
	s, want, last := summary.Data.(DiscussionSummarised), counted(t, events), events[len(events)-1]
	got := count{
		turns: s.Turns, responses: s.Responses, tokens: int(s.TokensIn + s.TokensOut), cost: want.cost, spoken: want.spoken,
		ended: true, bySpeaker: map[string]int{}, byQuestion: map[string]int{},
		first: s.FirstTurnAt, last: s.LastTurnAt, began: want.began, endedAt: want.endedAt,
	}
	spoken := 0.0
	for _, speaker := range s.Speakers {
		got.bySpeaker[speaker.PersonaID] = speaker.Turns
		got.words += speaker.Words
		spoken += speaker.SpokenSeconds
	}
	for _, q := range s.Questions {
		got.byQuestion[q.Text] = q.Answers
	}
	require.Equal(t, want, got)
	require.InDelta(t, want.cost, s.CostUSD, 1e-9)
	require.InDelta(t, want.spoken, spoken, 1e-6)
	require.InDelta(t, want.endedAt.Sub(want.began).Seconds(), s.DurationSeconds, 1e-6)

	recording := sha256.New()
	_, err := focusgroup.Export(recording, func(yield func(eventstore.Recorded, error) bool) {
		for _, event := range events {
			if !yield(event, nil) {
				return
			}
		}
	})
	require.NoError(t, err)
	require.Equal(t, Source{
		StreamID: events[0].StreamID, LastVersion: last.Version, FirstPosition: events[0].Position, LastPosition: last.Position,
		SHA256: hex.EncodeToString(recording.Sum(nil)),
	}, s.Source)
	require.Equal(t, last.ID.String(), summary.Metadata.CausationID)
}

// requireCompacted wants one summary, as the test counts it, of each discussion that has ended, and none of the others.
func requireCompacted(t *testing.T, log *eventstoretest.Log) (compacted, running int) {
	t.Helper()
	discussions := map[eventstore.StreamID][]eventstore.Recorded{}
	for event, err := range log.All(t.Context(), 0, eventstore.Filter{Categories: []string{"discussion"}}) {
		require.NoError(t, err)
		discussions[event.StreamID] = append(discussions[event.StreamID], event)
	}
	for id, events := range discussions {
		found := summaries(t, log, id)
		if !counted(t, events).ended {
			require.Empty(t, found)
			running++
			continue
		}
		require.Len(t, found, 1)
		requireCounted(t, found[0], events)
		compacted++
	}
	return compacted, running
}

func TestGeneratedDiscussions(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	_, err := log.Import(t.Context(), synthetic.New(synthetic.Config{Personas: 40, Months: 2, Events: 2000}).Source, eventstore.ImportConfig{})
	require.NoError(t, err)
	before := sources(t, log)
	require.NoError(t, compact(t.Context(), log.Store))
	compacted, running := requireCompacted(t, log)
	require.Greater(t, compacted, 50)
	require.Greater(t, running, 5, "some never end")
	require.Equal(t, before, sources(t, log), "the log was rewritten")
}

func TestRealRecordings(t *testing.T) {
	t.Parallel()
	corpustest.EachRecording(t, func(t *testing.T, path string) {
		log := newLog(t)
		require.NoError(t, command.Import(t.Context(), log.Store, path))
		before := sources(t, log)
		require.NoError(t, compact(t.Context(), log.Store))
		compacted, running := requireCompacted(t, log)
		require.Positive(t, compacted)
		require.Zero(t, running)
		require.Equal(t, before, sources(t, log), "the log was rewritten")

		var out bytes.Buffer
		longest, err := showAll(t.Context(), log.Store, &out)
		require.NoError(t, err)
		require.NoError(t, showOne(t.Context(), log.Store, longest, &out))
		require.Contains(t, out.String(), "; the same: true\n")
		require.Contains(t, out.String(), "with the SHA-256 of the summary: true\n")
		lines := strings.SplitN(out.String(), "\n", 6)
		t.Log("\n" + strings.Join(lines[:5], "\n"))
	})
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	log, id := ended(t)
	require.NoError(t, compact(t.Context(), log.Store))
	last := appendTo(t, log, id, eventstore.Event{
		Data: focusgroup.Response{PersonaID: "ann", Text: "And blue."}, Metadata: eventstore.Metadata{CorrelationID: "request-7"},
	})
	require.NoError(t, compact(t.Context(), log.Store))
	found := requireSummaries(t, log, id, 4, 5)
	end := eventstoretest.Collect(t, log.StreamTo(t.Context(), id, 3, 4))[0].ID.String()
	require.Equal(t, eventstore.Metadata{CorrelationID: end, CausationID: end, Actor: "compaction"}, found[0].Metadata)
	require.Equal(t, eventstore.Metadata{CorrelationID: "request-7", CausationID: last.EventIDs[0].String(), Actor: "compaction"}, found[1].Metadata)
	of := eventstore.Filter{Project: "packs", Types: []string{TypeDiscussionSummarised}}
	require.Len(t, eventstoretest.Collect(t, log.All(t.Context(), 0, of)), 2, "summaries are of the discussion's project")
}

// A run goes on where the one before has ended; even one from the start of the log appends nothing twice.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	log, id := ended(t)
	require.NoError(t, compact(t.Context(), log.Store))
	once := requireSummaries(t, log, id, 4)
	require.NoError(t, compact(t.Context(), log.Store))
	runner, err := projection.New(log.Store, projection.Config{Projections: []projection.Projection{compaction{log.Store}}})
	require.NoError(t, err)
	require.NoError(t, runner.Reset(t.Context(), compactionName))
	require.NoError(t, compact(t.Context(), log.Store))
	require.Equal(t, once, requireSummaries(t, log, id, 4))
}

func TestRunsAtOnceShareTheLease(t *testing.T) {
	t.Parallel()
	log, id := ended(t)
	var group errgroup.Group
	for range 2 {
		store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: log.Codec()})
		require.NoError(t, err)
		group.Go(func() error { return compact(t.Context(), store) })
	}
	require.NoError(t, group.Wait())
	requireSummaries(t, log, id, 4)
}

// hooked is a compaction in which something happens after the fold, and before and after the append, where a summary is due.
// Under a name of its own it shares no lease with others.
type hooked struct {
	compaction
	name          string
	folded        func(context.Context) error         // outside the transaction
	before, after func(context.Context, pgx.Tx) error // inside
}

func (h hooked) Spec() projection.Spec {
	spec := h.compaction.Spec()
	spec.Name = h.name
	return spec
}

func (h hooked) Prepare(ctx context.Context, batch *projection.Batch) error {
	err := h.compaction.Prepare(ctx, batch)
	if err == nil && h.folded != nil && len(batch.Prepared.([]eventstore.StreamAppend)) > 0 {
		err = h.folded(ctx)
	}
	return err
}

func (h hooked) Apply(ctx context.Context, tx pgx.Tx, batch *projection.Batch) (err error) {
	due := len(batch.Prepared.([]eventstore.StreamAppend)) > 0
	if due && h.before != nil {
		err = h.before(ctx, tx)
	}
	if err == nil {
		err = h.compaction.Apply(ctx, tx, batch)
	}
	if err == nil && due && h.after != nil {
		err = h.after(ctx, tx)
	}
	return err
}

func catchUp(ctx context.Context, store *eventstore.Store, h hooked) error {
	h.compaction = compaction{store}
	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{h}})
	if err != nil {
		return err
	}
	if err := runner.CatchUp(ctx); err != nil {
		return err
	}
	parked, err := runner.Parked(ctx, h.name, 1)
	if err == nil && len(parked) > 0 {
		err = errors.New(parked[0].Error)
	}
	return err
}

func TestRunsAtOnceWithoutACommonLease(t *testing.T) {
	t.Parallel()
	log, id := ended(t)
	var folded sync.WaitGroup
	folded.Add(2)
	var group errgroup.Group
	var appends atomic.Int64
	for _, name := range []string{"one", "two"} {
		group.Go(func() error {
			return catchUp(t.Context(), log.Store, hooked{
				name:   name,
				folded: func(context.Context) error { folded.Done(); folded.Wait(); return nil }, // neither has appended
				after:  func(context.Context, pgx.Tx) error { appends.Add(1); return nil },
			})
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 2, appends.Load(), "the second append is a repetition of the first, no conflict")
	requireSummaries(t, log, id, 4)
}

// One run has folded five events; before it appends, another has summarised six.
func TestARunThatComesLateGivesWay(t *testing.T) {
	t.Parallel()
	log, id := ended(t)
	require.NoError(t, catchUp(t.Context(), log.Store, hooked{name: "slow"}))
	appendTo(t, log, id, focusgroup.Response{PersonaID: "ann", Text: "And blue."})
	folds := 0
	require.NoError(t, catchUp(t.Context(), log.Store, hooked{name: "slow", folded: func(ctx context.Context) error {
		if folds++; folds > 1 {
			return errors.New("it folds again what is summarised")
		}
		appendTo(t, log, id, focusgroup.Response{PersonaID: "bo", Text: "A little."})
		return compact(ctx, log.Store)
	}}))
	require.Equal(t, 1, folds)
	requireSummaries(t, log, id, 4, 6)
}

func TestKilledBetweenFoldAndCommit(t *testing.T) {
	t.Parallel()
	refused := errors.New("the append fails")
	fail := func(context.Context, pgx.Tx) error { return projection.Transient(refused) }
	disconnect := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	}
	for name, kill := range map[string]func(context.Context, pgx.Tx) error{"interrupted": nil, "failed": fail, "disconnected": disconnect} {
		for _, appended := range []bool{false, true} {
			t.Run(map[bool]string{false: name + " before the append", true: name + " before the commit"}[appended], func(t *testing.T) {
				t.Parallel()
				log, id := ended(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				kills := 0
				around := func(ctx context.Context, tx pgx.Tx) error {
					kills++
					if kills > 1 || kill == nil {
						cancel() // the process ends here
						return ctx.Err()
					}
					return kill(ctx, tx)
				}
				h := hooked{name: compactionName, before: around}
				if appended {
					h.before, h.after = nil, around
				}
				require.ErrorIs(t, catchUp(ctx, log.Store, h), context.Canceled)
				require.Positive(t, kills)
				requireSummaries(t, log, id)
				require.NoError(t, compact(t.Context(), log.Store))
				requireSummaries(t, log, id, 4)
			})
		}
	}
}

func TestLateEventsMakeAnotherSummary(t *testing.T) {
	t.Parallel()
	log, id := ended(t)
	require.NoError(t, compact(t.Context(), log.Store))
	first := requireSummaries(t, log, id, 4)[0]
	appendTo(t, log, id, eventstore.Event{ // it was said first, and written last
		Data: focusgroup.Response{PersonaID: "ann", Question: "What do you see?", Text: "And blue."}, OccurredAt: first.OccurredAt.Add(-time.Hour),
	})
	require.NoError(t, compact(t.Context(), log.Store))
	appendTo(t, log, id, focusgroup.Followup{PersonaID: "bo", Text: "One."}, focusgroup.Followup{PersonaID: "bo", Text: "Two."})
	before := sources(t, log)
	require.NoError(t, compact(t.Context(), log.Store))
	found := requireSummaries(t, log, id, 4, 5, 7)
	require.Equal(t, first, found[0], "the first stays")
	require.Equal(t, before, sources(t, log))
	for _, summary := range found {
		upTo := summary.Data.(DiscussionSummarised).Source.LastVersion
		requireCounted(t, summary, eventstoretest.Collect(t, log.StreamTo(t.Context(), id, 0, upTo)))
	}
}

func TestRunningDiscussionsHaveNoSummary(t *testing.T) {
	t.Parallel()
	log, id := ended(t)
	running := focusgroup.NewDiscussionID()
	_, err := log.Append(t.Context(), running, eventstore.NoStream, focusgroup.DiscussionStarted{Title: "Lids"})
	require.NoError(t, err)
	require.NoError(t, compact(t.Context(), log.Store))
	appendTo(t, log, running, focusgroup.Response{PersonaID: "ann", Text: "Green."})
	appendTo(t, log, id, focusgroup.DiscussionStarted{Title: "Packs, again"})
	require.NoError(t, compact(t.Context(), log.Store))
	requireSummaries(t, log, running)
	requireSummaries(t, log, id, 4)
	appendTo(t, log, running, focusgroup.DiscussionEnded{})
	appendTo(t, log, id, focusgroup.DiscussionEnded{})
	require.NoError(t, compact(t.Context(), log.Store))
	requireSummaries(t, log, running, 3)
	requireSummaries(t, log, id, 4, 6)
}
