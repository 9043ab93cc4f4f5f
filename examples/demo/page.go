package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// width of what the demo prints, in characters.
const width = 110

// page prints lines and keeps the first error of its writer.
type page struct {
	out io.Writer
	err error
}

func (p *page) line(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.out, text)
	}
}

// section names a part of the demo and the call it shows.
func (p *page) section(title, call string) {
	p.line("")
	p.line("── %s %s %s", title, strings.Repeat("─", max(2, width-8-utf8.RuneCountInString(title+call))), call)
}

// shorten cuts a text to a number of characters, at a word where one ends nearby.
func shorten(text string, limit int) string {
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) <= limit {
		return string(runes)
	}
	cut := string(runes[:limit-1])
	if space := strings.LastIndexByte(cut, ' '); space > len(cut)*4/5 {
		cut = cut[:space]
	}
	return strings.TrimRight(cut, " ,.;:…") + "…"
}

// wrapped prints a text on as many lines as it needs; all but the first are indented.
func (p *page) wrapped(text string, indent int) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line+" "+word) > width {
			p.line("%s", line)
			line = strings.Repeat(" ", indent-1)
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	p.line("%s", line)
}

// thousands writes 12345 as 12,345.
func thousands[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// plural counts things: "1 event", "2,000 events".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return thousands(n) + " " + thing + "s"
}

// clock writes a time into a discussion as 04:07, or 1:04:07.
func clock(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%s%d:%02d:%02d", sign, s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%s%02d:%02d", sign, s/60, s%60)
}

// firstFew joins at most limit of the names.
func firstFew(names []string, limit int) string {
	if len(names) <= limit {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:limit], ", "), len(names)-limit)
}

// fit joins as many of the names as have room, but at least one.
func fit(names []string, room int) string {
	for limit := len(names); limit > 1; limit-- {
		if text := firstFew(names, limit); utf8.RuneCountInString(text) <= room {
			return text
		}
	}
	return firstFew(names, 1)
}
