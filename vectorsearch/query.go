package vectorsearch

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// Ranking says by what hits are ranked.
type Ranking string

// The rankings.
const (
	// ByMeaning is by the cosine similarity of vectors.
	ByMeaning Ranking = "meaning"
	// ByWords is by BM25 over the words of the text.
	ByWords Ranking = "words"
	// Hybrid fuses both by their ranks.
	Hybrid Ranking = "hybrid"
)

// Query says what to search for: by exactly one of Text, Vector and Example.
type Query struct {
	// Text is a question or some words.
	Text string
	// Vector is one of the index's model.
	Vector []float32
	// Example is the position of an event whose like is searched for; it is no hit itself.
	Example eventstore.Position

	// Ranking defaults to Hybrid for a Text, else it is ByMeaning.
	Ranking Ranking
	// Fusion weighs the parts of a Hybrid ranking.
	Fusion Fusion
	// Language of Text: its words are looked for in passages of that language. Defaults to those of Filter, or else to all that the
	// index has, where Text is read in each.
	Language string

	Filter Filter
	// AsOf is a position: the answer is that of a log which ended there. 0 is as far as the index has come.
	AsOf eventstore.Position
	// AsOfTime leaves out what was recorded later. Zero does not.
	AsOfTime time.Time

	// K is how many hits are wanted, up to 1,000, of a Hybrid 200. Defaults to 10.
	K int
	// Offset skips hits, up to 10,000, of a Hybrid 200 with K: the next page is that with the same AsOf (see Answer.AsOf) and an Offset larger by K.
	Offset int
	// MinSimilarity leaves out what is less similar, -1 to 1: for ByMeaning, and for the part of a Hybrid that it is.
	MinSimilarity float64
	// PerDiscussion is how many hits of a discussion there may be. 0 is any number.
	PerDiscussion int
	// Context adds the turns around a hit, so many before and behind, up to 20.
	Context int

	// Exact compares with every vector that passes the filters.
	Exact bool
	// EfSearch is how many candidates an HNSW index keeps, up to 1,000. Defaults to what K needs.
	EfSearch int
}

// Fusion weighs the ranks of a hybrid search: a hit's score is Words / (K + rank by words) + Meaning / (K + rank by meaning).
// Zero values are those chosen on real discussions (0.8, 0.2 and 10), where hybrid is better than either part in nDCG@10.
type Fusion struct {
	Words, Meaning float64
	K              float64
}

const (
	maxK       = 1000
	maxOffset  = 10_000
	maxContext = 20
	maxHybrid  = 200 // of Offset and K together
	maxEf      = 1000
	// maxQueryBytes bounds what is parsed for words.
	maxQueryBytes = 100_000
)

func (q Query) withDefaults() Query {
	if q.K == 0 {
		q.K = 10
	}
	if q.Ranking == "" {
		q.Ranking = ByMeaning
		if q.Text != "" {
			q.Ranking = Hybrid
		}
	}
	if q.Fusion == (Fusion{}) {
		q.Fusion = Fusion{Words: 0.8, Meaning: 0.2}
	}
	if q.Fusion.K == 0 {
		q.Fusion.K = 10
	}
	for i, language := range q.Filter.Languages {
		if i == 0 {
			q.Filter.Languages = append([]string{}, q.Filter.Languages...)
		}
		q.Filter.Languages[i] = baseLanguage(language)
	}
	return q
}

func (q Query) validate(model Model) error {
	given := 0
	for _, is := range []bool{q.Text != "", len(q.Vector) > 0, q.Example != 0} {
		if is {
			given++
		}
	}
	weights := []float64{q.Fusion.Words, q.Fusion.Meaning, q.Fusion.K, q.MinSimilarity}
	for _, weight := range weights {
		if math.IsNaN(weight) || math.IsInf(weight, 0) {
			return invalid("Query", "has a weight or a similarity that is no number")
		}
	}
	switch {
	case given == 0:
		return invalid("Query", "is empty: it needs a Text, a Vector or an Example")
	case given > 1:
		return invalid("Query", "has more than one of Text, Vector and Example")
	case q.Ranking != ByMeaning && q.Ranking != ByWords && q.Ranking != Hybrid:
		return invalid("Query.Ranking", fmt.Sprintf("%q is unknown; there are meaning, words and hybrid", q.Ranking))
	case q.Ranking != ByMeaning && q.Text == "":
		return invalid("Query.Ranking", string(q.Ranking)+" needs a Text")
	case q.Text != "" && !hasWords(q.Text):
		return invalid("Query.Text", "has no letter and no digit")
	case checkText(q.Text) != "":
		return invalid("Query.Text", checkText(q.Text))
	case len(q.Text) > maxQueryBytes || q.Ranking != ByWords && len(q.Text) > model.MaxBytes:
		return invalid("Query.Text", fmt.Sprintf("has %d bytes, %s takes %d", len(q.Text), model.Name, min(model.MaxBytes, maxQueryBytes)))
	case q.Example < 0 || q.AsOf < 0:
		return invalid("Query", "has a negative position")
	case q.K < 1 || q.K > maxK:
		return invalid("Query.K", fmt.Sprintf("is %d, 1 to %d are allowed", q.K, maxK))
	case q.Offset < 0 || q.Offset > maxOffset:
		return invalid("Query.Offset", fmt.Sprintf("is %d, 0 to %d are allowed", q.Offset, maxOffset))
	case q.Ranking == Hybrid && q.Offset+q.K > maxHybrid:
		return invalid("Query.Offset", fmt.Sprintf("and K come to %d: a hybrid ranking has up to %d hits", q.Offset+q.K, maxHybrid))
	case q.MinSimilarity < -1 || q.MinSimilarity > 1:
		return invalid("Query.MinSimilarity", fmt.Sprintf("is %g, a similarity is from -1 to 1", q.MinSimilarity))
	case q.PerDiscussion < 0:
		return invalid("Query.PerDiscussion", "is negative")
	case q.Context < 0 || q.Context > maxContext:
		return invalid("Query.Context", fmt.Sprintf("is %d, 0 to %d are allowed", q.Context, maxContext))
	case q.EfSearch < 0 || q.EfSearch > maxEf:
		return invalid("Query.EfSearch", fmt.Sprintf("is %d, 1 to %d are allowed", q.EfSearch, maxEf))
	case q.Fusion.Words < 0 || q.Fusion.Meaning < 0 || q.Fusion.Words+q.Fusion.Meaning == 0 || q.Fusion.K < 0:
		return invalid("Query.Fusion", "has negative weights, or none")
	case strings.ContainsRune(q.Language, 0):
		return invalid("Query.Language", "holds a NUL")
	}
	if len(q.Vector) > 0 {
		if len(q.Vector) != model.Dimensions {
			return invalid("Query.Vector", fmt.Sprintf("has %d dimensions, those of %s have %d", len(q.Vector), model.Name, model.Dimensions))
		}
		if err := checkNumbers(q.Vector); err != nil {
			return invalid("Query.Vector", err.Error())
		}
	}
	return q.Filter.validate()
}

// Path is how an answer was found.
type Path string

// The paths.
const (
	PathExact Path = "exact" // every vector that passes the filters was compared
	PathHNSW  Path = "hnsw"  // by HNSW indexes: a few of the nearest may be missing
	PathMixed Path = "mixed" // some months so, some so
	PathWords Path = "words" // by words alone: every passage with one of them
)

// Answer is what a search found.
type Answer struct {
	Hits []Hit
	// AsOf is the position that the answer is as of. Give it to the query for the next page.
	AsOf eventstore.Position
	// Complete says that nothing was left out which passes the filters: the path is exact or by words, the index has come as far
	// as Query.AsOf and AsOfTime, and no event is parked. Months past Config.KeepMonths are not the index's any more.
	Complete bool
	// Path is how vectors were searched.
	Path Path
	// Months that were searched, the newest first.
	Months []time.Time
	// Candidates is how many passages were compared: vectors, and passages with a word of the query.
	Candidates int
	Took       time.Duration
}

// Hit is a passage that was found.
type Hit struct {
	Turn
	// Score ranks the hits: similarity, BM25, or the fusion of their ranks.
	Score float64
	// Similarity is the cosine of the angle between the vectors, and Words the BM25 score; nil where the hit was not found by it.
	Similarity, Words *float64
	// Context are the passages of the stream around it, in order, the hit not among them. Those that the index does not have, as
	// they are not in its recipe or were dropped, are missing.
	Context []Turn
}

// Turn is a passage as it is stored.
type Turn struct {
	Position   eventstore.Position
	Chunk      int // from 1: texts that are too long for the model are cut
	StreamID   eventstore.StreamID
	Version    eventstore.Version
	Type       string
	Project    string
	Persona    string
	User       string
	Language   string
	OccurredAt time.Time
	RecordedAt time.Time
	Text       string
}
