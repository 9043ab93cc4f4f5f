package replay

import (
	"errors"
	"math"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/snapshot"
)

// Errors to match with errors.Is.
var (
	// ErrEnd: the player stands after the last step.
	ErrEnd = errors.New("the replay is at its end")
	// ErrStart: the player stands before the first step.
	ErrStart = errors.New("the replay is at its start")
	// ErrBreak: playing ended after a step for which Config.Break was true. Play again to go on.
	ErrBreak = errors.New("the replay has come to a breakpoint")
	// ErrNoStep: no step is what was looked for. The player stands where it stood.
	ErrNoStep = errors.New("no such step")
)

// Config of a [Player]. The zero value plays events as fast as it can, without states.
type Config[S any] struct {
	// Fold makes the states of steps, each stream its own. Its name and versions do not matter here. Defaults to none: steps
	// without states and changes.
	Fold snapshot.Fold[S]
	// Speed is how much faster than the discussion to play: 1 as it was, 10 ten times as fast. Defaults to as fast as it can.
	Speed float64
	// Break is called before a step is played; if it is true, playing ends with [ErrBreak] after the step. Defaults to none.
	Break func(Step[S]) bool
	// Question is the question that an event is about, empty for none. Defaults to that of focusgroup's Response and Followup.
	Question func(eventstore.Recorded) string
	// Progress is called while it plays, ten times a second at most, and when playing ends. Defaults to none.
	Progress func(Progress)
	// Clock replaces the machine's clock, for tests.
	Clock Clock
}

// Progress says how far playing is.
type Progress struct {
	Done, Total int           // steps
	Elapsed     time.Duration // since this Play began, by Config.Clock, pauses included
}

// Clock is what paced replay goes by.
type Clock interface {
	Now() time.Time
	// Timer returns a channel on which a time comes after d, and a function that releases it.
	Timer(d time.Duration) (<-chan time.Time, func())
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	timer := time.NewTimer(d)
	return timer.C, func() { timer.Stop() }
}

func (c Config[S]) withDefaults() Config[S] {
	if c.Question == nil {
		c.Question = questionOf
	}
	if c.Clock == nil {
		c.Clock = machineClock{}
	}
	return c
}

func (c Config[S]) validate() error {
	switch {
	case c.Speed < 0 || math.IsNaN(c.Speed) || math.IsInf(c.Speed, 0):
		return invalid("Config.Speed", "is no speed")
	case (c.Fold.New == nil) != (c.Fold.Apply == nil):
		return invalid("Config.Fold", "has no New or no Apply")
	}
	return nil
}

func invalid(field, reason string) error {
	return &eventstore.InvalidError{Index: -1, Field: field, Reason: reason}
}

func questionOf(event eventstore.Recorded) string {
	switch turn := event.Data.(type) {
	case focusgroup.Response:
		return turn.Question
	case focusgroup.Followup:
		return turn.Question
	}
	return ""
}
