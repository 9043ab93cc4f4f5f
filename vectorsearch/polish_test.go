package vectorsearch_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// Inflected words are found in the Polish recording, by hunspell's dictionary where the server has it, and by the beginnings of
// words where it does not.
func TestPolishWordsAreFoundInflected(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"as the server has it", "without a dictionary"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			if way == "without a dictionary" {
				withoutDictionary(t, log)
			}
			importDemo(t, log, "opakowania-pl.ndjson")
			index := newIndex(t, log, vectorsearch.Config{})
			advance(t, log, index)
			var dictionary bool
			require.NoError(t, log.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_ts_dict WHERE dictname = 'search_polish_ispell' AND dictnamespace = $1::text::regnamespace)`, log.Schema()).Scan(&dictionary))
			t.Logf("hunspell's dictionary: %v", dictionary)
			for asked, said := range map[string]string{
				"kolorem": "kolorów", "kolorami": "kolory", "opakowaniami": "opakowanie", "opakowań": "opakowaniach", "cenami": "cena", "cenie": "cenę",
				"półki": "półkach", "ziarnami": "ziarna", "recyklingu": "recykling",
			} {
				answer, err := index.Search(t.Context(), vectorsearch.Query{Text: asked, Ranking: vectorsearch.ByWords, K: 50})
				require.NoError(t, err)
				require.True(t, slices.ContainsFunc(answer.Hits, func(h vectorsearch.Hit) bool { return hasWord(h.Text, said) }), "%s asked, %s said: %v", asked, said, texts(answer.Hits))
				require.Less(t, len(answer.Hits), 30, "not everything is %s", asked)
			}
			answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "wykresami plantacjom", Ranking: vectorsearch.ByWords, Filter: vectorsearch.Filter{Languages: []string{"pl-PL"}}})
			require.NoError(t, err)
			require.Len(t, answer.Hits, 2)
		})
	}
}

// A passage with two forms of a word has it twice, also where words are found by their beginnings.
func TestFormsOfAWordAreCountedAlike(t *testing.T) {
	t.Parallel()
	log := withoutDictionary(t, newLog(t))
	say(t, log, "discussion-1", "p", "anna", "kolory tego pudełka", "kolory oraz kolorów", "kolory oraz kolory", "zupełnie inne zdanie")
	index := newIndex(t, log, vectorsearch.Config{Language: "pl"})
	advance(t, log, index)
	answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "kolor", Ranking: vectorsearch.ByWords})
	require.NoError(t, err)
	require.Len(t, answer.Hits, 3)
	require.Equal(t, "kolory tego pudełka", answer.Hits[2].Text)
	require.InDelta(t, answer.Hits[0].Score, answer.Hits[1].Score, 1e-9)

	none, err := index.Search(t.Context(), vectorsearch.Query{Text: "oraz tego", Ranking: vectorsearch.ByWords})
	require.NoError(t, err)
	require.Empty(t, none.Hits, "words that say nothing")
}

// withoutDictionary makes Polish as it is where the server has no dictionary: Migrate leaves a configuration as it finds it.
func withoutDictionary(t *testing.T, log *eventstoretest.Log) *eventstoretest.Log {
	t.Helper()
	_, err := log.Pool.Exec(t.Context(), `CREATE TEXT SEARCH CONFIGURATION `+log.Schema()+`.search_polish (COPY = pg_catalog.simple)`)
	require.NoError(t, err)
	return log
}

func hasWord(text, word string) bool {
	return slices.Contains(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune(" .,?!:;„”", r) }), word)
}

// importDemo imports one of the recordings of examples/demo.
func importDemo(t *testing.T, log *eventstoretest.Log, name string) {
	t.Helper()
	file, err := os.Open("../examples/demo/recordings/" + name)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	_, err = focusgroup.Import(t.Context(), log.Store, focusgroup.ReadRecording(file))
	require.NoError(t, err)
}
