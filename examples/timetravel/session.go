package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus"
	"github.com/sight-platform/hindsight/snapshot"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

type (
	player = replay.Player[*focusgroup.Discussion]
	step   = replay.Step[*focusgroup.Discussion]
)

// read returns the lines of the discussion in a recording that is asked for: of the longest, if that is none.
func read(recording string, asked eventstore.StreamID) ([]focusgroup.Line, error) {
	file, err := os.Open(recording)
	if err != nil {
		return nil, fmt.Errorf("opening the recording: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := map[eventstore.StreamID][]focusgroup.Line{}
	var longest eventstore.StreamID
	for line, err := range corpus.ReadAny(file) {
		if err != nil {
			return nil, fmt.Errorf("reading the recording: %w", err)
		}
		if id := line.StreamID; id.Category() == "discussion" {
			if lines[id] = append(lines[id], line); len(lines[id]) > len(lines[longest]) {
				longest = id
			}
		}
	}
	switch {
	case longest == "":
		return nil, errors.New("the recording holds no discussion")
	case asked == "":
		return lines[longest], nil
	case lines[asked] == nil:
		return nil, fmt.Errorf("the recording holds no discussion %q; its longest is %s", asked, longest)
	}
	return lines[asked], nil
}

// importLines imports a discussion and returns its id.
func importLines(ctx context.Context, store *eventstore.Store, lines []focusgroup.Line) (eventstore.StreamID, error) {
	_, err := focusgroup.Import(ctx, store, func(yield func(focusgroup.Line, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
		}
	})
	if err != nil {
		return "", fmt.Errorf("importing the discussion: %w", err)
	}
	return lines[0].StreamID, nil
}

func openPlayer(ctx context.Context, store *eventstore.Store, id eventstore.StreamID, speed float64) (*player, error) {
	return replay.Open(ctx, store, replay.Config[*focusgroup.Discussion]{
		Fold: snapshot.Fold[*focusgroup.Discussion]{
			New: func(eventstore.StreamID) *focusgroup.Discussion { return &focusgroup.Discussion{} },
			Apply: func(d *focusgroup.Discussion, e eventstore.Recorded) (*focusgroup.Discussion, error) {
				return d, d.Apply(e)
			},
		},
		Speed: speed,
	}, id)
}

// session is somebody's walk through one discussion. One goroutine at a time works with it.
type session struct {
	player *player
	whole  *focusgroup.Discussion     // at its end
	asked  []focusgroup.QuestionState // in the order they were asked
	step   step                       // where it stands; Number 0 is before the first
}

func openSession(ctx context.Context, store *eventstore.Store, id eventstore.StreamID, speed float64) (*session, error) {
	whole, err := focusgroup.Load(ctx, store, id)
	if err != nil {
		return nil, err
	}
	player, err := openPlayer(ctx, store, id, speed)
	if err != nil {
		return nil, err
	}
	return &session{player: player, whole: whole, asked: askedOf(whole)}, nil
}

func askedOf(d *focusgroup.Discussion) []focusgroup.QuestionState {
	asked := slices.DeleteFunc(slices.Clone(d.Questions), func(q focusgroup.QuestionState) bool { return q.AskedIn == 0 })
	slices.SortFunc(asked, func(a, b focusgroup.QuestionState) int { return cmp.Compare(a.AskedIn, b.AskedIn) })
	return asked
}

// offset is how far into the discussion a time is.
func (s *session) offset(at time.Time) time.Duration {
	return at.Sub(s.whole.StartedAt).Truncate(time.Second)
}

// to moves by what a seek of the player returned. Without a step the player stands before the first.
func (s *session) to(step step, err error) error {
	if err == nil || errors.Is(err, replay.ErrStart) {
		s.step = step
	}
	return err
}

// by goes a number of steps on, or back, as far as there are any.
func (s *session) by(ctx context.Context, steps int) error {
	switch to := s.step.Number + steps; {
	case steps > 0 && s.step.Number == s.player.Len():
		return replay.ErrEnd
	case to < 1 && s.step.Number > 1:
		return s.version(ctx, 1)
	case to < 1:
		_, err := s.player.Back(ctx)
		return s.to(step{}, err)
	default:
		return s.version(ctx, min(to, s.player.Len()))
	}
}

// version goes to an event. In a discussion by itself steps are numbered as versions are.
func (s *session) version(ctx context.Context, version int) error {
	return s.to(s.player.SeekVersion(ctx, s.whole.ID, eventstore.Version(version)))
}

// time goes to a time: RFC 3339, or how far into the discussion, as 12m30s.
func (s *session) time(ctx context.Context, text string) error {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		into, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no time: say 12m30s, from the start, or 2026-10-14T09:05:00Z", text)
		}
		at = s.whole.StartedAt.Add(into)
	}
	return s.to(s.player.SeekTime(ctx, at))
}

// question goes to where a question was asked: the next one, the one with this number, or the first with these words.
func (s *session) question(ctx context.Context, text string) error {
	number, err := strconv.Atoi(text)
	i := number - 1
	if err != nil {
		i = slices.IndexFunc(s.asked, func(q focusgroup.QuestionState) bool {
			if text == "" {
				return int(q.AskedIn) > s.step.Number
			}
			return strings.Contains(strings.ToLower(q.Text), strings.ToLower(text))
		})
	}
	if i < 0 || i >= len(s.asked) {
		return fmt.Errorf("%w: %d questions were asked", replay.ErrNoStep, len(s.asked))
	}
	return s.to(s.player.SeekQuestion(ctx, s.asked[i].Text))
}
