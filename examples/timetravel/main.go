// Command timetravel steps through a recorded discussion: each turn, the state after it, and what it changed. In a terminal
// it goes by keys; otherwise it takes commands, one a line. With -html it writes the whole discussion as one page instead,
// with a timeline and a slider. It imports the discussion into a throwaway log, which it removes.
//
//	go run ./timetravel [-recording file.ndjson[.gz]] [-discussion id] [-speed n] [-html out.html]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/examples/internal/command"
)

// options are the program's flags.
type options struct {
	recording  string
	discussion string // empty: the longest
	html       string // empty: step through it
	speed      float64
}

func main() {
	var o options
	flag.StringVar(&o.recording, "recording", command.Recordings()[0], "a recording, or a file of the corpus, gzipped or not")
	flag.StringVar(&o.discussion, "discussion", "", "the id of a discussion in it (default: the longest)")
	flag.StringVar(&o.html, "html", "", "write the discussion as one page to this file")
	flag.Float64Var(&o.speed, "speed", 1, "how much faster than the discussion the space key plays it")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "timetravel: unexpected argument %q; a file is given with -recording\n", flag.Arg(0))
		os.Exit(2)
	}
	command.Main("timetravel", func(ctx context.Context) error { return run(ctx, o, os.Stdin, os.Stdout) })
}

// run is the whole program. The log that it makes is gone when it returns.
func run(ctx context.Context, o options, in io.Reader, out io.Writer) (err error) {
	lines, err := read(o.recording, eventstore.StreamID(o.discussion)) // before the database: what is mistyped is told at once
	if err != nil {
		return err
	}
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: focusgroup.Codec()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	id, err := importLines(ctx, log.Store, lines)
	if err != nil {
		return err
	}
	if o.html != "" {
		return writePage(ctx, log.Store, id, o.html, out)
	}
	s, err := openSession(ctx, log.Store, id, o.speed)
	if err != nil {
		return err
	}
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return inTerminal(ctx, s, file, out)
	}
	return byLine(ctx, s, in, out)
}
