package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Change is one difference between two states, in the names of their JSON.
type Change struct {
	// Path is a JSON Pointer (RFC 6901): "/participants/0/turns". It is "" where the whole state is another.
	Path string `json:"path"`
	// Before is nil where there was nothing, After where there is nothing any more.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// String is the change for people: "/responses: 1 → 2", "/turn_order/7: + 3" for what is new, "/end_reason: - "…"" for what is
// gone.
func (c Change) String() string {
	switch {
	case c.Before == nil:
		return fmt.Sprintf("%s: + %s", c.Path, c.After)
	case c.After == nil:
		return fmt.Sprintf("%s: - %s", c.Path, c.Before)
	}
	return fmt.Sprintf("%s: %s → %s", c.Path, c.Before, c.After)
}

// Diff returns what makes one state another, member by member in the order of their names, element by element of lists: where
// a list grew or shrank, its end did. The error is that of encoding/json.
func Diff(before, after any) ([]Change, error) {
	old, err := json.Marshal(before)
	if err != nil {
		return nil, fmt.Errorf("comparing states: %w", err)
	}
	fresh, err := json.Marshal(after)
	if err != nil {
		return nil, fmt.Errorf("comparing states: %w", err)
	}
	return DiffJSON(old, fresh)
}

// DiffJSON is [Diff] for states that are JSON already; an empty one is nothing.
func DiffJSON(before, after []byte) ([]Change, error) {
	if bytes.Equal(before, after) {
		return nil, nil
	}
	var changes []Change
	if err := compare("", before, after, &changes); err != nil {
		return nil, fmt.Errorf("comparing states: %w", err)
	}
	return changes, nil
}

func compare(path string, before, after json.RawMessage, changes *[]Change) error {
	before, after = bytes.TrimSpace(before), bytes.TrimSpace(after)
	switch {
	case bytes.Equal(before, after):
		return nil
	case kind(before) == '{' && kind(after) == '{':
		return compareObjects(path, before, after, changes)
	case kind(before) == '[' && kind(after) == '[':
		return compareLists(path, before, after, changes)
	}
	for _, value := range []json.RawMessage{before, after} {
		if len(value) > 0 && !json.Valid(value) {
			return fmt.Errorf("%s holds what is no JSON", path)
		}
	}
	*changes = append(*changes, Change{Path: path, Before: orNil(before), After: orNil(after)})
	return nil
}

func kind(value []byte) byte {
	if len(value) == 0 {
		return 0
	}
	return value[0]
}

func orNil(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return nil
	}
	return slices.Clone(value)
}

func compareObjects(path string, before, after json.RawMessage, changes *[]Change) error {
	var old, fresh map[string]json.RawMessage
	if err := json.Unmarshal(before, &old); err != nil {
		return err
	}
	if err := json.Unmarshal(after, &fresh); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(old))
	for name := range fresh {
		if _, ok := old[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := compare(path+"/"+escape(name), old[name], fresh[name], changes); err != nil {
			return err
		}
	}
	return nil
}

func compareLists(path string, before, after json.RawMessage, changes *[]Change) error {
	var old, fresh []json.RawMessage
	if err := json.Unmarshal(before, &old); err != nil {
		return err
	}
	if err := json.Unmarshal(after, &fresh); err != nil {
		return err
	}
	for i := range max(len(old), len(fresh)) {
		if err := compare(path+"/"+strconv.Itoa(i), element(old, i), element(fresh, i), changes); err != nil {
			return err
		}
	}
	return nil
}

func element(list []json.RawMessage, i int) json.RawMessage {
	if i < len(list) {
		return list[i]
	}
	return nil
}

func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// at is the value that a JSON Pointer names; nil if there is none.
func at(state json.RawMessage, pointer string) (json.RawMessage, error) {
	if pointer == "" {
		return state, nil
	}
	for _, token := range strings.Split(pointer, "/")[1:] {
		switch kind(bytes.TrimSpace(state)) {
		case '{':
			var members map[string]json.RawMessage
			if err := json.Unmarshal(state, &members); err != nil {
				return nil, err
			}
			state = members[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
		case '[':
			var list []json.RawMessage
			if err := json.Unmarshal(state, &list); err != nil {
				return nil, err
			}
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || strconv.Itoa(i) != token {
				return nil, nil
			}
			state = element(list, i)
		default:
			return nil, nil
		}
	}
	return state, nil
}
