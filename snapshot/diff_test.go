package snapshot_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sight-platform/hindsight/snapshot"
)

func TestDiffNamesWhatChanged(t *testing.T) {
	t.Parallel()
	before := map[string]any{"a": 1, "list": []int{1, 2}, "same": map[string]any{"x": true}, "gone": "g", "a/b~c": 1, "kind": 1}
	after := map[string]any{"a": 2, "list": []int{1, 3, 4}, "same": map[string]any{"x": true}, "new": nil, "a/b~c": 2, "kind": "one"}
	changes, err := snapshot.Diff(before, after)
	require.NoError(t, err)
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	require.Equal(t, []string{
		"/a: 1 → 2",
		"/a~1b~0c: 1 → 2",
		`/gone: - "g"`,
		`/kind: 1 → "one"`,
		"/list/1: 2 → 3",
		"/list/2: + 4",
		"/new: + null",
	}, lines)
	changes, err = snapshot.DiffJSON([]byte(`{"a": 1}`), []byte(`{"a":1}`))
	require.NoError(t, err)
	require.Empty(t, changes)
	_, err = snapshot.DiffJSON([]byte(`{"a": 1}`), []byte(`{"a":`))
	require.Error(t, err)
	_, err = snapshot.Diff(1, func() {})
	require.Error(t, err)
}

// The changes, carried out on the one state, give the other.
func TestDiffIsComplete(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before, after := value(2).Draw(t, "before"), value(2).Draw(t, "after")
		changes, err := snapshot.Diff(before, after)
		require.NoError(t, err)
		state := plain(t, before)
		for _, c := range slices.Backward(changes) { // lists grow and shrink at their end
			if c.After == nil {
				state = change(t, state, c)
			}
		}
		for _, c := range changes {
			if c.After != nil {
				state = change(t, state, c)
			}
		}
		require.Equal(t, plain(t, after), state)
	})
}

func value(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.IntRange(0, 3), func(i int) any { return i }), rapid.Map(rapid.SampledFrom([]string{"", "x", "a/b", "~"}), func(s string) any { return s }))
	if depth == 0 {
		return leaf
	}
	inner := value(depth - 1)
	return rapid.OneOf(leaf,
		rapid.Map(rapid.SliceOfN(inner, 0, 4), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"", "x", "a/b", "~", "~1"}), inner, 0, 4), func(m map[string]any) any { return m }))
}

func plain(t require.TestingT, v any) (out any) {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &out))
	return out
}

// change carries a change out on a state.
func change(t *rapid.T, state any, c snapshot.Change) any {
	if c.Path == "" {
		var v any
		require.NoError(t, json.Unmarshal(c.After, &v))
		return v
	}
	token, rest, nested := strings.Cut(c.Path[1:], "/")
	inner := c
	if inner.Path = ""; nested {
		inner.Path = "/" + rest
	}
	switch s := state.(type) {
	case map[string]any:
		name := strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		if !nested && c.After == nil {
			delete(s, name)
		} else {
			s[name] = change(t, s[name], inner)
		}
		return s
	case []any:
		i, err := strconv.Atoi(token)
		require.NoError(t, err)
		switch {
		case !nested && c.After == nil:
			require.Equal(t, len(s)-1, i)
			return s[:i]
		case i == len(s):
			return append(s, change(t, nil, inner))
		}
		s[i] = change(t, s[i], inner)
		return s
	}
	panic(fmt.Sprintf("%s in %v", c.Path, state))
}
