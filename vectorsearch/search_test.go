package vectorsearch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/vectorsearch"
)

func TestSearchFindsWhatWasSaid(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	id := focusgroup.NewDiscussionID()
	say(t, log, id, "p1", "anna", "The packaging is hard to open.", "I like the blue colour of the bottle.", "It costs too much for students.")
	other := focusgroup.NewDiscussionID()
	say(t, log, other, "p2", "bert", "The bottle leaks in my bag.", "Students do not buy it.", "Opening the packaging takes scissors.")
	index := newIndex(t, log, vectorsearch.Config{})
	advance(t, log, index)
	for _, ranking := range []vectorsearch.Ranking{vectorsearch.ByMeaning, vectorsearch.ByWords, vectorsearch.Hybrid} {
		t.Run(string(ranking), func(t *testing.T) {
			t.Parallel()
			answer, err := index.Search(t.Context(), vectorsearch.Query{Text: "open the packaging", Ranking: ranking, K: 2, Context: 1})
			require.NoError(t, err)
			require.True(t, answer.Complete)
			require.ElementsMatch(t, []string{"The packaging is hard to open.", "Opening the packaging takes scissors."}, texts(answer.Hits))
			for _, h := range answer.Hits {
				require.Len(t, h.Context, 1)
			}
			answer, err = index.Search(t.Context(), vectorsearch.Query{Text: "students", Ranking: ranking, K: 1, Filter: vectorsearch.Filter{Projects: []string{"p2"}}})
			require.NoError(t, err)
			require.Equal(t, []string{"Students do not buy it."}, texts(answer.Hits))
		})
	}
}
