package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/command"
	"github.com/sight-platform/hindsight/snapshot/replay"
)

// typing runs the program as somebody who types these lines, and returns what it prints.
func typing(t *testing.T, o options, lines ...string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), o, strings.NewReader(strings.Join(lines, "\n")), &out))
	return out.String()
}

func TestCommands(t *testing.T) {
	t.Parallel()
	o := options{recording: command.Recordings()[0], speed: 1}
	require.Equal(t, `“One-page checkout for an outdoor shop”, 14 October 2026 09:00 UTC, 39 events in 9m16s
nothing yet
1 of 39  +0s  09:00:00  discussion_started
“One-page checkout for an outdoor shop” begins.
running: 0 turns (0 responses, 0 followups), 0 of 5 questions asked
3 of 39  +25s  09:00:25  response
? Think of the last time you spent more than £50 online. What happened between the basket and the confirmatio…
Marcus Oyelaran: A rechargeable head torch for work. Basket, card, done in a minute, because the shop took
Apple Pay. If I have to get my wallet out of the van I usually don't bother.
running: 2 turns (2 responses, 0 followups), 1 of 5 questions asked
  Hannah Brooks                   1×     43 words      18s
  Marcus Oyelaran                 1×     33 words      14s
  1. Think of the last time you spent more than £50 online. What happened be…  +5s, answered by 2, 0 followups
`, typing(t, o, "state", "next", "state", "next 2", "state", "quit", "next"))

	steps := regexp.MustCompile(`(?m)^\d+ of 39`).FindAllString(typing(t, o, "goto 12", "back 10", "time 1m", "question 2",
		"question POSTCODE", "question", "time 2026-10-14T09:06:00Z", "next 9223372036854775807", "back 9223372036854775807"), -1)
	require.Equal(t, []string{
		"12 of 39", "2 of 39", "4 of 39", "9 of 39", "18 of 39", "26 of 39", "25 of 39", "39 of 39", "1 of 39",
	}, steps)

	for line, want := range map[string]string{
		"back": "that is the start", "goto 40": "no such step", "goto x": `"x" is no number of steps`, "time 5": `"5" is no time`,
		"question 6": "5 questions were asked", "question zebra": "no such step", "dance": "commands: next [n], ", "diff\nback": "start",
		"goto 39\nnext": "that is the end", "time -1s": "that is the start", "goto 39\nquestion": "no such step",
	} {
		require.Contains(t, typing(t, o, line), want, line)
	}
}

// What people wrote commands no terminal.
func TestTextIsCleaned(t *testing.T) {
	t.Parallel()
	d := hostileDiscussion(t)
	s, err := openSession(t.Context(), d.log.Store, d.id, 1)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, byLine(t.Context(), s, strings.NewReader("next\ndiff\nnext\nstate\ndiff\nnext\nstate\nquestion "+hostile), &out))
	require.Contains(t, out.String(), "[2J")
	require.NotContains(t, out.String(), "\x1b")
	screen := &screen{}
	terminal := &terminal{session: s, out: screen, size: func() (int, int) { return 200, 50 }}
	for range s.player.Len() {
		require.NoError(t, terminal.draw())
		require.NoError(t, s.move(t.Context(), "goto 3"))
	}
	require.Contains(t, screen.frames[2], "Ended: ")
	require.NotContains(t, strings.Join(screen.frames, ""), "\x1b[2J")
}

// What the README shows is what the program prints.
func TestREADME(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), `printf 'goto 4\nstate\n' | go run ./timetravel`)
	require.Contains(t, string(readme), typing(t, options{recording: command.Recordings()[0]}, "goto 4", "state"))
}

func TestWhatIsWrong(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.ndjson")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for want, o := range map[string]options{
		"opening the recording": {recording: "nowhere.ndjson"},
		"holds no discussion":   {recording: empty},
		`no discussion "discussion-x"; its longest is discussion-01a139a3`: {recording: command.Recordings()[0], discussion: "discussion-x"},
		"Config.Speed":     {recording: command.Recordings()[0], speed: -1},
		"writing the page": {recording: command.Recordings()[0], html: t.TempDir()},
	} {
		require.ErrorContains(t, run(t.Context(), o, strings.NewReader(""), io.Discard), want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in, typed := io.Pipe()
	defer func() { require.NoError(t, typed.Close()) }()
	go func() {
		_, _ = io.WriteString(typed, "next\n")
		cancel()
	}()
	require.ErrorIs(t, run(ctx, options{recording: command.Recordings()[0]}, in, io.Discard), context.Canceled, "waiting for a command")
}

// screen keeps frames, and says when one holds what is waited for.
type screen struct {
	frames []string
	want   string
	seen   chan struct{}
}

func (s *screen) Write(frame []byte) (int, error) {
	s.frames = append(s.frames, string(frame))
	if s.want != "" && strings.Contains(string(frame), s.want) {
		s.want = ""
		close(s.seen)
	}
	return len(frame), nil
}

func demoSession(t *testing.T, speed float64) *session {
	t.Helper()
	d := imported(t, command.Recordings()[0])
	s, err := openSession(t.Context(), d.log.Store, d.id, speed)
	require.NoError(t, err)
	return s
}

// Each key, as a terminal sends it, goes where it says; and what is drawn fits.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := demoSession(t, 1)
	keys := []struct{ typed, want string }{
		{"", "1 of 39  "},
		{"\x1b[C", "2 of 39  "},
		{"\x1b[C", "3 of 39  "},
		{"\x1b[D", "2 of 39  "},
		{"\x1b[6~", "12 of 39  "},
		{"\x1b[5~", "2 of 39  "},
		{"q", "9 of 39  "},
		{"\x1b[F", "39 of 39  "},
		{"\x1b[C", "that is the end"},
		{"\x1b[1~", "1 of 39  "},
		{"x", "1 of 39  "},
		{"\x1b[D", "before the first event"},
		{"t", "time █"},
		{"9\x7fżm", "time żm█"},
		{"\x1b[C", "time żm█"},
		{"\b\b4m\r", "17 of 39  "},
		{"/5", "question 5█"},
		{"\r", "If you could change one thing"},
		{"t1m\x1b", help},
		{"\x1b", help},
		{"qq", "no such step"},
	}
	for _, size := range [][2]int{{130, 50}, {60, 20}, {20, 5}} {
		stream, n := "", 0
		out := &screen{}
		terminal := &terminal{session: s, out: out, size: func() (int, int) { return size[0], size[1] }}
		for _, key := range keys {
			stream += key.typed
		}
		require.NoError(t, s.move(t.Context(), "goto 1"))
		require.ErrorIs(t, s.move(t.Context(), "back"), replay.ErrStart)
		require.NoError(t, terminal.run(t.Context(), scan(t.Context(), strings.NewReader(stream), scanKeys)))
		for _, key := range keys {
			n += len(split(t, key.typed))
			if size[0] > 100 {
				require.Contains(t, out.frames[n], key.want, "after %q", key.typed)
			}
			lines := strings.Split(strings.TrimPrefix(out.frames[n], "\x1b[H"), "\r\n")
			require.Len(t, lines, size[1])
			for _, line := range lines {
				line = strings.NewReplacer(bold, "", dim, "", plain, "", "\x1b[K", "").Replace(line)
				require.LessOrEqual(t, utf8.RuneCountInString(line), size[0], line)
			}
		}
		require.Len(t, out.frames, n+1)
	}
}

// split is a stream of bytes as keys.
func split(t *testing.T, stream string) (keys []string) {
	t.Helper()
	for key := range scan(t.Context(), strings.NewReader(stream), scanKeys) {
		require.NoError(t, key.err)
		keys = append(keys, key.text)
	}
	return keys
}

func TestAStreamOfBytesIsSplitIntoKeys(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"a", right, "ż", escape, "\x1b[1;5C", "\x1bOH", pageUp, escape, "["},
		split(t, "a\x1b[Cż\x1b\x1b[1;5C\x1bOH\x1b[5~\x1b["))
	require.Equal(t, []string{escape, "a", "\xc5"}, split(t, "\x1ba\xc5"))
}

// Space plays, and the end of the discussion ends that; a key in the middle moves, and it plays on from there.
func TestPlaying(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		speed             float64
		first, want, then string
	}{
		{1e6, " ", "that is the end", ctrlC},
		{1e-6, " \x1b[6~", "11 of 39  ", " \x03"}, // it would take years
	} {
		in, typed := io.Pipe()
		out := &screen{want: test.want, seen: make(chan struct{})}
		terminal := &terminal{session: demoSession(t, test.speed), out: out, size: func() (int, int) { return 120, 50 }}
		ended := make(chan error, 1)
		go func() { ended <- terminal.run(t.Context(), scan(t.Context(), in, scanKeys)) }()
		_, err := io.WriteString(typed, test.first)
		require.NoError(t, err)
		select {
		case <-out.seen:
		case <-time.After(time.Minute):
			t.Fatal("it does not come")
		}
		_, err = io.WriteString(typed, test.then)
		require.NoError(t, err)
		require.NoError(t, <-ended)
		require.NoError(t, typed.Close())
		require.False(t, terminal.playing)
		if test.speed > 1 {
			require.GreaterOrEqual(t, len(out.frames), 40, "every step is shown")
		}
	}
}
