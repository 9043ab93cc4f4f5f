package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sight-platform/hindsight/snapshot/replay"
)

const commands = "commands: next [n], back [n], goto VERSION, time 12m30s or 2026-10-14T09:05:00Z, " +
	"question [NUMBER or words], state, diff, quit"

// errNoCommand: a line says nothing that can be done.
var errNoCommand = errors.New("there is no such command")

// move does a command that goes elsewhere; keys are such commands too.
func (s *session) move(ctx context.Context, command string) error {
	name, argument, _ := strings.Cut(strings.TrimSpace(command), " ")
	argument = strings.TrimSpace(argument)
	switch name {
	case "next", "back", "goto":
		n, err := strconv.Atoi(argument)
		if argument == "" && name != "goto" {
			n, err = 1, nil
		}
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number of steps", argument)
		}
		switch name {
		case "goto":
			return s.version(ctx, n)
		case "back":
			return s.by(ctx, -n)
		}
		return s.by(ctx, min(n, s.player.Len())) // however many there are
	case "time":
		return s.time(ctx, argument)
	case "question":
		return s.question(ctx, argument)
	}
	return errNoCommand
}

// explain is an error in words for who moved.
func explain(err error) string {
	switch {
	case errors.Is(err, replay.ErrEnd):
		return "that is the end"
	case errors.Is(err, replay.ErrStart):
		return "that is the start"
	case errors.Is(err, errNoCommand):
		return commands
	}
	return err.Error()
}

// byLine takes commands, one a line, until there are no more.
func byLine(ctx context.Context, s *session, in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprintln(out, clean(s.title())); err != nil {
		return err
	}
	for all := scan(ctx, in, bufio.ScanLines); ; {
		line, err := next(ctx, all)
		if line = strings.TrimSpace(line); errors.Is(err, io.EOF) || line == "quit" {
			return nil
		}
		var lines []string
		if err == nil && line != "" {
			lines, err = s.answer(ctx, line)
		}
		if err != nil {
			return err
		}
		for _, line := range lines {
			if _, err := fmt.Fprintln(out, clean(line)); err != nil {
				return err
			}
		}
	}
}

// answer does a command and is what to print.
func (s *session) answer(ctx context.Context, line string) ([]string, error) {
	switch line {
	case "state":
		return s.state(plainWidth), nil
	case "diff":
		return s.diff(plainWidth)
	}
	if err := s.move(ctx, line); err != nil {
		return []string{explain(err)}, ctx.Err()
	}
	return s.turn(plainWidth), nil
}

// typed is a line or a key, or the error that ended them.
type typed struct {
	text string
	err  error
}

// scan passes on what is typed. Its goroutine may wait in a read for as long as the program runs: nothing ends that wait.
func scan(ctx context.Context, in io.Reader, split bufio.SplitFunc) <-chan typed {
	scanner := bufio.NewScanner(in)
	scanner.Split(split)
	all := make(chan typed)
	send := func(t typed) bool {
		select {
		case all <- t:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(all)
		for scanner.Scan() {
			if !send(typed{text: scanner.Text()}) {
				return
			}
		}
		if err := scanner.Err(); err != nil {
			send(typed{err: err})
		}
	}()
	return all
}

// next is what is typed next, or io.EOF.
func next(ctx context.Context, all <-chan typed) (string, error) {
	select {
	case t, ok := <-all:
		if !ok && ctx.Err() != nil { // scan has ended for that
			return "", ctx.Err()
		}
		if !ok {
			return "", io.EOF
		}
		return t.text, t.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
