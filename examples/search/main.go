// Command search indexes recorded discussions and answers questions about them on the terminal, each hit with what was said around
// it. Words are turned into vectors by a small embedder in the program itself (English); the log is a throwaway one.
//
//	go run ./search [-k 3] [-ranking hybrid] [-filter persona=ID] [-ask QUESTION] [recording.ndjson[.gz] ...]
//
// Without -ask it reads questions from standard input, a line each.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/examples/internal/wordvectors"
	"github.com/sight-platform/hindsight/projection"
	"github.com/sight-platform/hindsight/vectorsearch"
)

func main() {
	var asked []string
	query := vectorsearch.Query{Context: 1}
	flag.IntVar(&query.K, "k", 3, "hits a question")
	flag.Func("ranking", "hybrid, meaning or words", func(text string) error { query.Ranking = vectorsearch.Ranking(text); return nil })
	flag.Func("filter", "NAME=VALUE, such as persona=ID, from=2026-11-05, metadata.actor=ID; several must all hold", func(text string) error {
		name, value, _ := strings.Cut(text, "=")
		return query.Filter.Set(name, value)
	})
	flag.Func("ask", "a question; several are asked one after another", func(text string) error { asked = append(asked, text); return nil })
	flag.Parse()
	var questions io.Reader = os.Stdin
	if len(asked) > 0 {
		questions = strings.NewReader(strings.Join(asked, "\n"))
	}
	command.Main("search", func(ctx context.Context) error { return run(ctx, flag.Args(), query, questions, os.Stdout) })
}

// run is the whole program. The log that it makes is gone when it returns.
func run(ctx context.Context, recordings []string, query vectorsearch.Query, questions io.Reader, out io.Writer) (err error) {
	log, err := command.Open(ctx, recordings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	started := time.Now()
	index, err := build(ctx, log.Store, vectorsearch.Discussions())
	if err != nil {
		return err
	}
	names, err := namesOf(ctx, log.Store)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "Indexed in %.1f s.\n", time.Since(started).Seconds()); err != nil {
		return err
	}
	lines := bufio.NewScanner(questions)
	for lines.Scan() {
		query.Text = strings.TrimSpace(lines.Text())
		if query.Text == "" {
			continue
		}
		answer, err := index.Search(ctx, query)
		if errors.Is(err, eventstore.ErrInvalid) { // the next one may be better
			answer = nil
			_, err = fmt.Fprintf(out, "\n? %s\n%v\n", query.Text, err)
		}
		if err == nil && answer != nil {
			_, err = io.WriteString(out, show(query, answer, names))
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// build indexes all that the log holds.
func build(ctx context.Context, store *eventstore.Store, recipe vectorsearch.Recipe) (*vectorsearch.Index, error) {
	embedder, err := wordvectors.New()
	if err != nil {
		return nil, err
	}
	index, err := vectorsearch.New(store, vectorsearch.Config{Embedder: embedder, Recipe: recipe})
	if err != nil {
		return nil, err
	}
	if err := index.Migrate(ctx); err != nil {
		return nil, err
	}
	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{index}})
	if err != nil {
		return nil, err
	}
	return index, runner.CatchUp(ctx) // a service would let it run on
}

// namesOf are the participants' names, by their ids.
func namesOf(ctx context.Context, store *eventstore.Store) (map[string]string, error) {
	names := map[string]string{}
	for e, err := range store.All(ctx, 0, eventstore.Filter{Types: []string{focusgroup.TypeDiscussionStarted}}) {
		if err != nil {
			return nil, err
		}
		for _, p := range e.Data.(focusgroup.DiscussionStarted).Participants {
			names[p.PersonaID] = p.Name
		}
	}
	return names, nil
}

// show writes an answer for people.
func show(query vectorsearch.Query, answer *vectorsearch.Answer, names map[string]string) string {
	var out strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&out, format+"\n", args...) }
	turn := func(mark string, t vectorsearch.Turn) {
		name := names[t.Persona]
		switch {
		case t.Type == focusgroup.TypeDiscussionEnded:
			name = "Summary"
		case name == "":
			name = "Moderator"
		}
		line("   %s %s: %s", mark, name, t.Text)
	}
	line("\n? %s", query.Text)
	for i, h := range answer.Hits {
		parts := []string{}
		if h.Words != nil {
			parts = append(parts, fmt.Sprintf("words %.2f", *h.Words))
		}
		if h.Similarity != nil {
			parts = append(parts, fmt.Sprintf("similarity %.2f", *h.Similarity))
		}
		line("%d. %s, turn %d (%s)", i+1, h.OccurredAt.Format("2006-01-02 15:04"), h.Version, strings.Join(parts, ", "))
		before := true
		for _, c := range h.Context {
			if before && c.Version > h.Version {
				turn(">", h.Turn)
				before = false
			}
			turn(" ", c)
		}
		if before {
			turn(">", h.Turn)
		}
	}
	complete := "complete"
	if !answer.Complete {
		complete = "not complete"
	}
	line("   %d of %d candidates, path %s, %s, as of position %d", len(answer.Hits), answer.Candidates, answer.Path, complete, answer.AsOf)
	return out.String()
}
