package wordvectors

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"unicode"

	"github.com/sight-platform/hindsight/vectorsearch"
)

//go:embed words.bin
var table []byte

const dimensions = 100

var (
	_ vectorsearch.Embedder = (*Embedder)(nil)

	errEmpty = errors.New("it is empty")
)

// Embedder is safe for concurrent use.
type Embedder struct {
	revision string
	words    map[string][]float32
}

// New reads the table of words, some ten megabytes in memory.
func New() (*Embedder, error) {
	words, err := decode(bytes.NewReader(table))
	if err != nil {
		return nil, fmt.Errorf("reading words.bin: %w", err)
	}
	return newEmbedder(fmt.Sprintf("%.6x", sha256.Sum256(table)), words), nil
}

func newEmbedder(revision string, words []word) *Embedder {
	e := &Embedder{revision: revision, words: make(map[string][]float32, len(words))}
	for _, w := range words {
		e.words[w.text] = w.vector
	}
	return e
}

// Model says which embedder this is. Its revision is that of the table.
func (e *Embedder) Model() vectorsearch.Model {
	return vectorsearch.Model{Name: "glove100-sif", Revision: e.revision, Dimensions: dimensions, MaxTexts: 1000, MaxBytes: 8000}
}

// Embed returns vectors of length 1. Tokens are the words of the texts. A text of white space is a [*vectorsearch.TextError].
func (e *Embedder) Embed(ctx context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	vectors := make([][]float32, len(texts))
	var usage vectorsearch.Usage
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, usage, err
		}
		tokens := tokenize(text)
		usage.Tokens += int64(len(tokens))
		vector := e.sum(tokens)
		if !normalize(vector) {
			if strings.TrimSpace(text) == "" {
				return nil, usage, &vectorsearch.TextError{Index: i, Err: errEmpty}
			}
			vector = hashed(text)
		}
		vectors[i] = vector
	}
	return vectors, usage, nil
}

func (e *Embedder) sum(tokens []string) []float32 {
	sum := make([]float32, dimensions)
	for _, token := range tokens {
		for k, x := range e.words[e.name(token)] {
			sum[k] += x
		}
	}
	return sum
}

// name is by what the table has a token, if at all: "don't" by "do", "chair's" by "chair".
func (e *Embedder) name(token string) string {
	beforeNot, _ := strings.CutSuffix(token, "n't")
	beforeMark, _, _ := strings.Cut(token, "'")
	for _, name := range []string{token, beforeNot, beforeMark} {
		if _, ok := e.words[name]; ok {
			return name
		}
	}
	return ""
}

// tokenize returns the words in lower case. What transcripts write in braces, as {vocalsound}, was not said.
func tokenize(text string) []string {
	braces := 0
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '{':
			braces++
		case r == '}' && braces > 0:
			braces--
		case braces > 0:
		case r == '’':
			return '\''
		default:
			return unicode.ToLower(r)
		}
		return ' '
	}, text)
	tokens := strings.FieldsFunc(text, func(r rune) bool { return r != '\'' && !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	words := tokens[:0]
	for _, token := range tokens {
		if token = strings.Trim(token, "'"); token != "" {
			words = append(words, token)
		}
	}
	return words
}

// normalize makes the vector's length 1, unless it is 0.
func normalize(vector []float32) bool {
	var squares float64
	for _, x := range vector {
		squares += float64(x) * float64(x)
	}
	if squares == 0 {
		return false
	}
	for k := range vector {
		vector[k] = float32(float64(vector[k]) / math.Sqrt(squares))
	}
	return true
}

// hashed adds up a direction for each three letters in a row, the ends of the text taken for letters.
func hashed(text string) []float32 {
	letters := []rune("^" + strings.Join(strings.Fields(strings.ToLower(text)), " ") + "$")
	vector := make([]float32, dimensions)
	for i := range len(letters) - 2 {
		addDirection(vector, string(letters[i:i+3]))
	}
	if !normalize(vector) { // directions that cancel each other out
		addDirection(vector, string(letters))
		normalize(vector)
	}
	return vector
}

func addDirection(vector []float32, of string) {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(of))
	random := rand.New(rand.NewPCG(hash.Sum64(), 0))
	for k := range vector {
		vector[k] += float32(random.IntN(2)*2 - 1)
	}
}
