// Package clustered makes vectors as those of real texts lie, in clusters of many sizes, and logs of turns that have them: for
// tests and benchmarks of searches.
package clustered

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// Embedder is a [vectorsearch.Embedder] of texts that end in a number.
type Embedder struct {
	dimensions int
	centres    [][]float32
}

// New makes an embedder of vectors around so many centres. It is always the same one.
func New(dimensions, clusters int) *Embedder {
	e := &Embedder{dimensions: dimensions}
	source := rand.New(rand.NewPCG(7, 7))
	for range clusters {
		e.centres = append(e.centres, direction(source, dimensions))
	}
	return e
}

func direction(source *rand.Rand, dimensions int) []float32 {
	out := make([]float32, dimensions)
	for d := range out {
		out[d] = float32(source.NormFloat64())
	}
	return out
}

// Model implements [vectorsearch.Embedder].
func (e *Embedder) Model() vectorsearch.Model {
	return vectorsearch.Model{Name: "clustered", Dimensions: e.dimensions, MaxTexts: 1000}
}

// Vector is that of a number.
func (e *Embedder) Vector(n uint64) []float32 {
	source := rand.New(rand.NewPCG(n, 3))
	out := direction(source, e.dimensions)
	at := int(float64(len(e.centres)) * source.Float64() * source.Float64()) // few of them are large
	for d := range out {
		out[d] = 0.6*out[d] + e.centres[at][d]
	}
	return out
}

// Embed implements [vectorsearch.Embedder].
func (e *Embedder) Embed(_ context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		n, err := strconv.ParseUint(text[strings.LastIndexByte(text, ' ')+1:], 10, 64)
		if err != nil {
			return nil, vectorsearch.Usage{}, &vectorsearch.TextError{Index: i, Err: err}
		}
		out[i] = e.Vector(n)
	}
	return out, vectorsearch.Usage{}, nil
}

// Personas of [Turns], by the share of the turns that is theirs.
const (
	Tenth      = "one-in-10"
	Hundredth  = "one-in-100"
	Thousandth = "one-in-1000"
)

// Turns is a source of so many turns in each of the months before the present one, their texts numbered from 0.
func Turns(months, each int) eventstore.ImportSource {
	now := time.Now().UTC()
	first := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, -months, 0)
	return func(string) iter.Seq2[eventstore.Imported, error] {
		return func(yield func(eventstore.Imported, error) bool) {
			versions := map[eventstore.StreamID]eventstore.Version{}
			for n := range months * each {
				at := first.AddDate(0, n/each, 0).Add(time.Duration(n%each) * (27 * 24 * time.Hour / time.Duration(each)))
				id := eventstore.StreamID("discussion-" + strconv.Itoa(n/each) + "-" + strconv.Itoa(n%(each/50+1)))
				versions[id]++
				body, err := json.Marshal(focusgroup.Response{PersonaID: persona(n), Text: "turn " + strconv.Itoa(n)})
				var eventID uuid.UUID
				binary.BigEndian.PutUint64(eventID[8:], uint64(n+1))
				if !yield(eventstore.Imported{
					StreamID: id, Version: versions[id], RecordedAt: at,
					Event: eventstore.Event{ID: eventID, OccurredAt: at, Data: eventstore.Raw{Type: focusgroup.TypeResponse, JSON: body}},
				}, err) {
					return
				}
			}
		}
	}
}

func persona(n int) string {
	switch {
	case n%1000 == 0:
		return Thousandth
	case n%100 == 1:
		return Hundredth
	case n%10 == 2:
		return Tenth
	}
	return "common"
}
