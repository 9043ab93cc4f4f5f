package wordvectors

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// Tuned on the training recordings and their questions.
const (
	sifA       = 3e-4   // SIF's a
	removed    = 1      // components that are taken out
	whitening  = 0.75   // 0 leaves the others as they are, 1 makes them equal
	frequent   = 20_000 // words of GloVe that are in the table whether the recordings have them or not
	gloveFiles = "glove100_60k"
)

// Build writes the table of words, from the folders of GloVe vectors and of recordings.
func Build(w io.Writer, vectors, recordings string) error {
	words, err := weightedWords(vectors, recordings)
	if err != nil {
		return err
	}
	return encode(w, words)
}

// weightedWords are the most frequent words of GloVe and those of the training recordings that are among GloVe's others.
func weightedWords(vectors, recordings string) ([]word, error) {
	all, err := readGloVe(vectors)
	if err != nil {
		return nil, fmt.Errorf("reading the vectors: %w", err)
	}
	texts, err := trainingTexts(recordings)
	if err != nil {
		return nil, fmt.Errorf("reading the recordings: %w", err)
	}
	counts, total := map[string]float64{}, 0.0
	glove := newEmbedder("", all)
	for _, tokens := range texts {
		for _, token := range tokens {
			if name := glove.name(token); name != "" {
				counts[name]++
			}
			total++
		}
	}
	words := all[:0]
	for i, word := range all {
		if i >= frequent && counts[word.text] == 0 || !isToken(word.text) {
			continue
		}
		weight := sifA / (sifA + max(counts[word.text], 1)/total)
		for k := range word.vector {
			word.vector[k] *= float32(weight)
		}
		words = append(words, word)
	}
	transform(words, commonMap(newEmbedder("", words), texts))
	return words, nil
}

// isToken leaves out GloVe's punctuation and compounds, which tokenize never asks for.
func isToken(text string) bool {
	tokens := tokenize(text)
	return len(tokens) == 1 && tokens[0] == text
}

func readGloVe(folder string) ([]word, error) {
	vocabulary, err := os.ReadFile(filepath.Join(folder, gloveFiles+".vocab.txt"))
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(vocabulary))
	f, err := os.Open(filepath.Join(folder, gloveFiles+".f32"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	words := make([]word, len(names))
	for i, name := range names {
		vector := make([]float32, dimensions)
		if err := binary.Read(in, binary.LittleEndian, vector); err != nil {
			return nil, fmt.Errorf("the vector of %s: %w", name, err)
		}
		words[i] = word{name, vector}
	}
	return words, nil
}

// trainingTexts are the words of each turn in the recordings of the training split.
func trainingTexts(folder string) ([][]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "qmsum_*_train.ndjson.gz"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no recordings qmsum_*_train.ndjson.gz in %s", folder)
	}
	var texts [][]string
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		for line, err := range focusgroup.Lines(f) {
			var turn struct{ Text string }
			if err == nil {
				err = json.Unmarshal(line.Text, &turn)
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("%s: %w", filepath.Base(path), err), f.Close())
			}
			texts = append(texts, tokenize(turn.Text))
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// commonMap is the matrix that takes out the first component of the texts' vectors and damps the others by their variance.
func commonMap(e *Embedder, texts [][]string) [][]float64 {
	covariance := square()
	for _, tokens := range texts {
		vector := e.sum(tokens)
		if len(tokens) < 4 || !normalize(vector) { // "Yeah." and "Mm-hmm." are half of all turns, and say little about texts
			continue
		}
		for i, x := range vector {
			for j, y := range vector {
				covariance[i][j] += float64(x) * float64(y)
			}
		}
	}
	variances, components := eigen(covariance)
	result := square()
	for n, component := range components {
		if n < removed || variances[n] <= 0 {
			continue
		}
		factor := math.Pow(variances[n]/variances[0], -whitening/2)
		for i, x := range component {
			for j, y := range component {
				result[i][j] += factor * x * y
			}
		}
	}
	return result
}

func transform(words []word, matrix [][]float64) {
	for _, word := range words {
		mapped := make([]float32, dimensions)
		for i, row := range matrix {
			sum := 0.0
			for j, x := range word.vector {
				sum += row[j] * float64(x)
			}
			mapped[i] = float32(sum)
		}
		copy(word.vector, mapped)
	}
}
