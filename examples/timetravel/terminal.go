package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/sight-platform/hindsight/snapshot/replay"
)

const help = "→ ← step · PgDn PgUp ten · Home End · q next question · / find one · t time · space play · Ctrl-C quit"

// What keys send, and some marks.
const (
	right, left, pageDown, pageUp = "\x1b[C", "\x1b[D", "\x1b[6~", "\x1b[5~"
	escape, ctrlC, ctrlD          = "\x1b", "\x03", "\x04"
	enter, backspace, del         = "\r", "\b", "\x7f"

	bold, dim, plain = "\x1b[1m", "\x1b[2m", "\x1b[0m"
	enterScreen      = "\x1b[?1049h\x1b[?25l" // a screen of its own, no cursor
	leaveScreen      = "\x1b[?25h\x1b[?1049l"
)

// inTerminal goes by keys. Whatever ends it, the terminal is then as it was.
func inTerminal(ctx context.Context, s *session, in *os.File, out io.Writer) (err error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("taking over the terminal: %w", err)
	}
	defer func() {
		_, left := fmt.Fprint(out, leaveScreen)
		err = errors.Join(err, left, term.Restore(int(in.Fd()), before))
	}()
	if _, err := fmt.Fprint(out, enterScreen); err != nil {
		return err
	}
	t := &terminal{session: s, out: out, size: func() (int, int) {
		width, height, err := term.GetSize(int(in.Fd()))
		if err != nil {
			return 80, 24
		}
		return width, height
	}}
	return t.run(ctx, scan(ctx, in, scanKeys))
}

// scanKeys splits what a terminal sends into keys. A sequence comes in one read, nearly always: Esc alone does no harm.
func scanKeys(data []byte, atEOF bool) (int, []byte, error) {
	switch {
	case len(data) == 0 || !atEOF && !utf8.FullRune(data):
		return 0, nil, nil
	case data[0] != escape[0]:
		_, n := utf8.DecodeRune(data)
		return n, data[:n], nil
	case len(data) > 2 && (data[1] == '[' || data[1] == 'O'):
		for i, b := range data[2:] {
			if b >= 0x40 && b <= 0x7e {
				return i + 3, data[:i+3], nil
			}
		}
	}
	return 1, data[:1], nil
}

type terminal struct {
	*session
	out     io.Writer
	size    func() (width, height int)
	playing bool
	prompt  string // the command that is typed: "time ", "question "; empty for none
	typed   string
	message string
}

func (t *terminal) run(ctx context.Context, keys <-chan typed) error {
	t.do(ctx, "next")
	for {
		if err := t.draw(); err != nil {
			return err
		}
		key, err := t.key(ctx, keys)
		switch {
		case errors.Is(err, io.EOF) || key == ctrlC || key == ctrlD:
			return nil
		case err != nil:
			return err
		case key == "": // it has played to the end
		case t.prompt != "":
			t.edit(ctx, key)
		default:
			t.press(ctx, key)
		}
	}
}

// key waits for a key, and plays meanwhile if it is to. When it returns, nothing plays: the session is the caller's again.
func (t *terminal) key(ctx context.Context, keys <-chan typed) (string, error) {
	if !t.playing {
		return next(ctx, keys)
	}
	waiting, pressed := context.WithCancel(ctx)
	defer pressed()
	played := make(chan error, 1)
	go func() {
		played <- t.player.Play(waiting, func(_ context.Context, step step) error {
			t.step = step
			return t.draw()
		})
	}()
	select {
	case key, ok := <-keys:
		pressed()
		if err := <-played; err != nil && !errors.Is(err, context.Canceled) {
			return "", err
		}
		if !ok && ctx.Err() != nil { // scan has ended for that
			return "", ctx.Err()
		}
		if !ok {
			return "", io.EOF
		}
		return key.text, key.err
	case err := <-played:
		t.playing, t.message = false, explain(replay.ErrEnd)
		return "", err
	}
}

func (t *terminal) press(ctx context.Context, key string) {
	t.message = ""
	switch key {
	case right:
		t.do(ctx, "next")
	case left:
		t.do(ctx, "back")
	case pageDown:
		t.do(ctx, "next 10")
	case pageUp:
		t.do(ctx, "back 10")
	case "\x1b[H", "\x1bOH", "\x1b[1~":
		t.do(ctx, "goto 1")
	case "\x1b[F", "\x1bOF", "\x1b[4~":
		t.do(ctx, fmt.Sprint("goto ", t.player.Len()))
	case "q":
		t.do(ctx, "question")
	case "/":
		t.prompt = "question "
	case "t":
		t.prompt = "time "
	case " ":
		t.playing = !t.playing
	}
}

// edit goes on with what is typed after a prompt.
func (t *terminal) edit(ctx context.Context, key string) {
	switch key {
	case enter:
		t.do(ctx, t.prompt+t.typed)
		t.prompt, t.typed = "", ""
	case escape:
		t.prompt, t.typed = "", ""
	case backspace, del:
		_, n := utf8.DecodeLastRuneInString(t.typed)
		t.typed = t.typed[:len(t.typed)-n]
	default:
		if r, _ := utf8.DecodeRuneInString(key); unicode.IsPrint(r) {
			t.typed += key
		}
	}
}

func (t *terminal) do(ctx context.Context, command string) {
	t.message = ""
	if err := t.move(ctx, command); err != nil {
		t.message = explain(err)
	}
}

// draw shows where the session stands: the turn, the state after it, what it changed.
func (t *terminal) draw() error {
	width, height := t.size()
	changes, err := t.diff(width)
	if err != nil {
		return err
	}
	turn, state := t.turn(width), t.state(width)
	room := height - 8 // what the three have between them; of the state most can be done without
	turn = clip(turn, max(room/3, room-len(state)-len(changes)))
	changes = clip(changes, max(room/4, room-len(turn)-len(state)))
	state = clip(state, room-len(turn)-len(changes))

	done := width * t.step.Number / t.player.Len()
	lines := []string{
		bold + shorten(t.title(), width) + plain,
		strings.Repeat("━", done) + dim + strings.Repeat("─", width-done) + plain,
	}
	for i, part := range [][]string{turn, append([]string{"State"}, state...), append([]string{"Changed"}, changes...)} {
		if i > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, bold+cut(part[0], width)+plain)
		for _, line := range part[1:] {
			lines = append(lines, cut(line, width))
		}
	}
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, height-1)], t.footer(width))
	_, err = io.WriteString(t.out, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K")
	return err
}

func (t *terminal) footer(width int) string {
	switch {
	case t.prompt != "":
		text := []rune(t.prompt + t.typed)
		return string(text[max(0, len(text)-width+1):]) + "█"
	case t.message != "":
		return bold + shorten(t.message, width) + plain
	case t.playing:
		return dim + shorten("playing · space stops", width) + plain
	}
	return dim + shorten(help, width) + plain
}

// clip leaves out the end of a list that has no room.
func clip(lines []string, room int) []string {
	if room = max(1, room); len(lines) <= room {
		return lines
	}
	return append(lines[:room-1:room-1], fmt.Sprintf("… and %d more lines", len(lines)-room+1))
}
