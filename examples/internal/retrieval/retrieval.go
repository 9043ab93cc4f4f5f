// Package retrieval reads the questions that people have asked about recorded discussions, with the turns in which they found the
// answers, and judges rankings by them, as the figures of the corpus' README do.
package retrieval

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

// FewestWords is how many a turn must have to be searched.
const FewestWords = 4

// Question is one about a discussion. Relevant are the turns (by Turn.Seq) that answer it and are long enough.
type Question struct {
	Stream, Query string
	Relevant      map[int]bool
}

// Turn of a discussion.
type Turn struct {
	Stream, Type, Text string
	Seq                int
}

// Split of the recordings: "train" or "val".
type Split struct {
	Name      string
	Files     []string
	Turns     map[string][]Turn // of a stream, those that are long enough
	Questions []Question
}

// Quality of a ranking, or the mean of several.
type Quality struct{ Hit1, NDCG10, MRR float64 }

// Load reads a split: the discussions numbered 0, every, 2*every, … and the specific questions about them.
func Load(t testing.TB, name string, every int) Split {
	t.Helper()
	recordings := corpustest.Recordings(t)
	s := Split{Name: name, Turns: map[string][]Turn{}}
	files, err := filepath.Glob(filepath.Join(recordings, "qmsum_*_"+name+".ndjson.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings of the split %s in %s: %v", name, recordings, err)
	}
	s.Files = files
	streams := 0
	for _, path := range files {
		eachLine(t, path, func(turn Turn) {
			if turn.Type == focusgroup.TypeDiscussionStarted {
				streams++
			}
			said := turn.Type != focusgroup.TypeDiscussionStarted && turn.Type != focusgroup.TypeDiscussionEnded
			if said && (streams-1)%every == 0 && LongEnough(turn.Text) {
				s.Turns[turn.Stream] = append(s.Turns[turn.Stream], turn)
			}
		})
	}
	type line struct {
		Kind, Stream, Query string
		RelevantSeqs        []int `json:"relevant_seqs"`
	}
	eachLine(t, filepath.Join(filepath.Dir(recordings), "truth", "qmsum_"+name+".ndjson"), func(q line) {
		relevant := map[int]bool{}
		for _, turn := range s.Turns[q.Stream] {
			if slices.Contains(q.RelevantSeqs, turn.Seq) {
				relevant[turn.Seq] = true
			}
		}
		if q.Kind == "specific" && len(relevant) > 0 {
			s.Questions = append(s.Questions, Question{q.Stream, q.Query, relevant})
		}
	})
	if len(s.Questions) == 0 {
		t.Fatalf("no questions about the split %s", name)
	}
	return s
}

// LongEnough says whether a turn is searched.
func LongEnough(text string) bool { return len(strings.Fields(text)) >= FewestWords }

func eachLine[T any](t testing.TB, path string, do func(T)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for line, err := range focusgroup.Lines(f) {
		var value T
		if err == nil {
			err = json.Unmarshal(line.Text, &value)
		}
		if err != nil {
			t.Fatalf("reading %s: %v", path, err)
		}
		do(value)
	}
}

// Judge a ranking: the turns' numbers, best first. It may end before all are ranked.
func (q Question) Judge(ranked []int) Quality {
	var found Quality
	for rank, seq := range ranked {
		if !q.Relevant[seq] {
			continue
		}
		if found.MRR == 0 {
			found.MRR = 1 / float64(rank+1)
		}
		if rank == 0 {
			found.Hit1 = 1
		}
		if rank < 10 {
			found.NDCG10 += gain(rank)
		}
	}
	ideal := 0.0
	for rank := range min(len(q.Relevant), 10) {
		ideal += gain(rank)
	}
	found.NDCG10 /= ideal
	return found
}

func gain(rank int) float64 { return 1 / math.Log2(float64(rank+2)) }

// Mean of rankings.
func Mean(all []Quality) Quality {
	var mean Quality
	n := float64(len(all))
	for _, q := range all {
		mean = Quality{mean.Hit1 + q.Hit1/n, mean.NDCG10 + q.NDCG10/n, mean.MRR + q.MRR/n}
	}
	return mean
}
