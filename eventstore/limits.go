package eventstore

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

// Limits, checked before the database is asked. A breach is an [InvalidError]; nothing is written.
const (
	MaxStreamIDBytes   = 200
	MaxTypeBytes       = 100
	MaxProjectBytes    = 200
	MaxDataBytes       = 1 << 20  // of one event's body
	MaxMetadataBytes   = 64 << 10 // of one event's metadata
	MaxEventsPerAppend = 1000
	MaxAppendBytes     = 16 << 20 // of all bodies and metadata of an append
	MaxJSONDepth       = 256      // PostgreSQL's parser would run out of stack long after that
)

// earliest and latest bound occurred_at: beyond them a unit was mixed up (seconds for milliseconds, a zero time).
var (
	earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant that Go cannot write
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // as above
)

// cutTime brings a time to what the database keeps, so that what was appended equals what is read.
func cutTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func checkOccurredAt(t time.Time) string {
	if t.Before(earliest) || !t.Before(latest) {
		return fmt.Sprintf("%s is outside %d to %d", t.Format(time.RFC3339), earliest.Year(), latest.Year()-1)
	}
	return ""
}

func checkType(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > MaxTypeBytes:
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(name), MaxTypeBytes)
	}
	return checkText(name)
}

func checkProject(project string) string {
	if len(project) > MaxProjectBytes {
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(project), MaxProjectBytes)
	}
	return checkText(project)
}

// checkJSON refuses what is not JSON, and the JSON that PostgreSQL's json type takes but its operators then choke on for
// ever: \u0000 and lone surrogates. It returns why, or "".
func checkJSON(data []byte, maxBytes int) string {
	switch {
	case len(data) > maxBytes:
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(data), maxBytes)
	case !utf8.Valid(data): // json.Valid lets it through inside strings
		return "is not valid UTF-8"
	case !json.Valid(data):
		return "is not valid JSON"
	}
	return checkEscapesAndDepth(data)
}

// checkEncoded is checkJSON for what encoding/json has just written: JSON, but with whatever bytes a RawMessage brought.
func checkEncoded(data []byte, maxBytes int) string {
	switch {
	case len(data) > maxBytes:
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(data), maxBytes)
	case !utf8.Valid(data):
		return "is not valid UTF-8"
	}
	return checkEscapesAndDepth(data)
}

// checkEscapesAndDepth walks valid JSON once.
func checkEscapesAndDepth(data []byte) string {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++ // data is valid: something follows
			if data[i] != 'u' {
				continue
			}
			unit := hex4(data[i+1:])
			i += 4
			switch {
			case unit == 0:
				return `holds \u0000, which PostgreSQL cannot read back`
			case unit >= 0xDC00 && unit <= 0xDFFF:
				return fmt.Sprintf(`holds the lone surrogate \u%04x`, unit)
			case unit >= 0xD800 && unit <= 0xDBFF:
				if i+6 >= len(data) || data[i+1] != '\\' || data[i+2] != 'u' {
					return fmt.Sprintf(`holds the lone surrogate \u%04x`, unit)
				}
				if low := hex4(data[i+3:]); low < 0xDC00 || low > 0xDFFF {
					return fmt.Sprintf(`holds the lone surrogate \u%04x`, unit)
				}
				i += 6
			}
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxJSONDepth {
				return fmt.Sprintf("is nested deeper than %d", MaxJSONDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return ""
}

// hex4 reads the four hex digits of an escape; data is valid JSON, so they are there.
func hex4(data []byte) (unit uint32) {
	for _, c := range data[:4] {
		unit <<= 4
		switch {
		case c >= '0' && c <= '9':
			unit |= uint32(c - '0')
		default:
			unit |= uint32(c|0x20-'a') + 10
		}
	}
	return unit
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
