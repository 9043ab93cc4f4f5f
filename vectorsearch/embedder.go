package vectorsearch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sight-platform/hindsight/eventstore"
)

// Embedder turns texts into vectors. Implementations must be safe for concurrent use; package embedhttp has two.
//
// The kind of an error decides what becomes of the texts, so it must be chosen with care:
//
//	*RateLimitError   the service wants a pause: they are sent again after it
//	*TextError        this text alone cannot be embedded: it is parked, the others are sent again
//	ErrBatch          one of several texts was refused, or so many together: they are sent again in smaller calls
//	ErrRefused        no text's fault and does not pass by itself (key, model, address, account): sent again later, none is parked
//	*VectorError      the answer breaks the contract as a whole: sent again later, none is parked
//	any other         taken for one that passes by itself (network, timeout, overload): sent again; a text that fails so three
//	                  times by itself, while the service embeds another, is parked
type Embedder interface {
	// Model is asked once, by New.
	Model() Model
	// Embed returns a vector for each text, in their order: all of them, or an error. It is given at most Model.MaxTexts texts
	// of at most Model.MaxBytes each. It does not try again: that is the caller's part. The usage counts with an error too,
	// where the call was paid for all the same.
	Embed(ctx context.Context, texts []string) ([][]float32, Usage, error)
}

// Model of an [Embedder]. Vectors of different names, revisions or dimensions are never compared.
type Model struct {
	Name string
	// Revision tells apart models of one name, and the same model after a change of what surrounds it. Defaults to none.
	Revision string
	// Dimensions of each vector, 1 to 4,000.
	Dimensions int
	// MaxTexts is how many texts a call takes. Defaults to 100.
	MaxTexts int
	// MaxBytes is how long one text may be. Defaults to 8,000.
	MaxBytes int
}

// Usage is what a call has consumed. Zero: the service does not say, or is free.
type Usage struct {
	Tokens  int64
	CostUSD float64
}

const (
	maxDimensions = 4000 // what an HNSW index over halfvec takes
	maxNameBytes  = 200
)

func (m Model) withDefaults() Model {
	if m.MaxTexts == 0 {
		m.MaxTexts = 100
	}
	if m.MaxBytes == 0 {
		m.MaxBytes = 8000
	}
	return m
}

func (m Model) validate() error {
	fail := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Model." + field, Reason: reason}
	}
	switch {
	case m.Name == "":
		return fail("Name", "is empty")
	case !printable(m.Name):
		return fail("Name", fmt.Sprintf("is over %d bytes or not printable", maxNameBytes))
	case !printable(m.Revision):
		return fail("Revision", fmt.Sprintf("is over %d bytes or not printable", maxNameBytes))
	case m.Dimensions < 1 || m.Dimensions > maxDimensions:
		return fail("Dimensions", fmt.Sprintf("are %d, 1 to %d are allowed", m.Dimensions, maxDimensions))
	case m.MaxTexts < 0:
		return fail("MaxTexts", "is negative")
	case m.MaxBytes < 0:
		return fail("MaxBytes", "is negative")
	}
	return nil
}

func printable(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return len(text) <= maxNameBytes && utf8.ValidString(text)
}

// CheckModel returns the model with its defaults, for constructors of embedders. Errors match [eventstore.ErrInvalid].
func CheckModel(model Model) (Model, error) {
	if err := model.validate(); err != nil {
		return Model{}, err
	}
	return model.withDefaults(), nil
}

// Errors of an [Embedder] to match with errors.Is.
var (
	// ErrBatch: one of several texts was refused, or so many together. Sent by itself, the bad one shows as a [TextError].
	ErrBatch = errors.New("the texts were refused together")
	// ErrRefused: the service refuses every call until somebody mends the key, the model's name, the address or the account.
	ErrRefused = errors.New("the embedding service refuses every call")
)

// RateLimitError says that the service wants a pause.
type RateLimitError struct {
	After time.Duration // 0: it does not say how long
	Err   error         // may be nil
}

func (e *RateLimitError) Error() string {
	text := "the embedding service's rate limit"
	if e.After > 0 {
		text += fmt.Sprintf(", for %v", e.After)
	}
	return withCause(text, e.Err)
}

func (e *RateLimitError) Unwrap() error { return e.Err }

// TextError says that one text cannot be embedded, however often it is sent: the service refuses it by itself, or answers with
// a vector that is zero, NaN or infinite.
type TextError struct {
	Index int   // of the text in the call, from 0
	Err   error // may be nil
}

func (e *TextError) Error() string {
	return withCause(fmt.Sprintf("text %d cannot be embedded", e.Index), e.Err)
}

func (e *TextError) Unwrap() error { return e.Err }

// VectorError says how an answer breaks the contract of [Embedder]. Nothing of it can be used: which vector belongs to which
// text is not certain any more.
type VectorError struct {
	Reason string
	Err    error // may be nil
}

func (e *VectorError) Error() string { return withCause("unusable answer: "+e.Reason, e.Err) }

func (e *VectorError) Unwrap() error { return e.Err }

func withCause(text string, err error) string {
	if err != nil {
		text += ": " + err.Error()
	}
	return text
}

// CheckVectors says whether vectors are an answer to texts: as many, of the model's dimensions ([VectorError]), each finite and
// not all zeros ([TextError] of the first that is not). The answers of every embedder go through it.
func CheckVectors(model Model, texts []string, vectors [][]float32) error {
	if len(vectors) != len(texts) {
		return &VectorError{Reason: fmt.Sprintf("%d vectors for %d texts", len(vectors), len(texts))}
	}
	for i, vector := range vectors {
		if len(vector) != model.Dimensions {
			return &VectorError{Reason: fmt.Sprintf("vector %d has %d dimensions, those of %s have %d",
				i, len(vector), model.Name, model.Dimensions)}
		}
	}
	for i, vector := range vectors {
		if err := checkNumbers(vector); err != nil {
			return &TextError{Index: i, Err: err}
		}
	}
	return nil
}

// checkNumbers refuses what has no direction: its distance to anything is NaN.
func checkNumbers(vector []float32) error {
	zero := true
	for i, x := range vector {
		if x64 := float64(x); math.IsNaN(x64) || math.IsInf(x64, 0) {
			return fmt.Errorf("its vector has %v in dimension %d", x, i)
		}
		zero = zero && x == 0
	}
	if zero {
		return errors.New("its vector is all zeros")
	}
	return nil
}
