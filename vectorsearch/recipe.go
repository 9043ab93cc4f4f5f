package vectorsearch

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// Passage is what an event says, to be found by its meaning and its words.
type Passage struct {
	// Text is cut at the ends of sentences where the model takes less. Without letters or digits it is left out.
	Text string
	// Project, Persona and User are what filters ask for; "" where there is none.
	Project, Persona, User string
	// Language is that of the text, BCP 47 ("en", "pl-PL"); "" is [Config].Language.
	Language string
}

// Recipe makes passages of events. Texts that were made by another Version of it are not what a new one would make, so a change
// needs another Version here and in [Config].
type Recipe struct {
	Version int
	// Types of the events that it wants.
	Types []string
	// Passages of an event, one or several. An error parks the event.
	Passages func(eventstore.Recorded) ([]Passage, error)
}

// Discussions is the recipe of the vocabulary: each turn of a discussion, and its summary, is a passage.
func Discussions() Recipe {
	return Recipe{
		Version:  1,
		Types:    []string{focusgroup.TypeResponse, focusgroup.TypeFollowup, focusgroup.TypeDiscussionEnded},
		Passages: discussionPassages,
	}
}

func discussionPassages(e eventstore.Recorded) ([]Passage, error) {
	turn := func(t focusgroup.Turn) []Passage {
		return []Passage{{Text: t.Text, Project: t.ProjectID, Persona: t.PersonaID, User: t.UserID, Language: t.Language}}
	}
	switch d := e.Data.(type) {
	case focusgroup.Response:
		return turn(focusgroup.Turn(d)), nil
	case focusgroup.Followup:
		return turn(focusgroup.Turn(d)), nil
	case focusgroup.DiscussionEnded:
		return []Passage{{Text: d.Summary, Project: d.ProjectID, User: d.UserID}}, nil
	}
	return nil, fmt.Errorf("the recipe Discussions does not know %s (%T)", e.Type, e.Data)
}

// hasWords says whether there is anything to search for.
func hasWords(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

// chunks cuts a text into pieces of at most limit bytes: after a sentence, else between words, else between characters. What is
// between pieces is white space alone.
func chunks(text string, limit int) []string {
	var out []string
	text = strings.TrimSpace(text)
	for len(text) > limit {
		end := cut(text, limit)
		if piece := strings.TrimSpace(text[:end]); piece != "" {
			out = append(out, piece)
		}
		text = strings.TrimSpace(text[end:])
	}
	if text != "" {
		out = append(out, text)
	}
	return out
}

// cut is where the first piece of a text that is too long ends.
func cut(text string, limit int) int {
	end := limit
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	if end == 0 { // no character fits
		_, end = utf8.DecodeRuneInString(text)
	}
	sentence, word := 0, 0
	for i, r := range text[:end] {
		after := i + utf8.RuneLen(r)
		switch next, _ := utf8.DecodeRuneInString(text[after:]); {
		case strings.ContainsRune(".!?…。！？", r) && (unicode.IsSpace(next) || r > 0x3000), r == '\n':
			sentence = after
		case unicode.IsSpace(r):
			word = i
		}
	}
	switch {
	case sentence > end/4: // a short first piece says little by itself
		return sentence
	case word > 0:
		return word
	}
	return end
}

// wordCount is the length of a text for ranking.
func wordCount(text string) int {
	return len(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '’' }))
}
