package main

import (
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// responses makes payloads of about 300 bytes of JSON, as a discussion writes them. They differ with from, so that nothing
// profits from equal bytes.
func responses(from, n int) []focusgroup.Response {
	texts := []string{
		"I would try it once, but the price has to come down before I buy it every week for the family.",
		"The label tells me nothing about where it comes from, and that is the first thing I look for.",
		"My daughter likes the taste, so we keep it at home, though I still prefer the old recipe myself.",
		"It saves me twenty minutes in the morning, which is worth more to me than the nicer packaging.",
	}
	names := []string{"Ada", "Boris", "Celine", "Dmitri", "Elif", "Farid", "Greta"}
	made := make([]focusgroup.Response, n)
	for at := range made {
		i := from + at
		made[at] = focusgroup.Response{
			ProjectID:       "project-7",
			PersonaID:       "persona-" + names[i%len(names)],
			PersonaName:     names[i%len(names)],
			Question:        "What would make you buy it again?",
			Text:            texts[i%len(texts)],
			DurationSeconds: float64(3 + i%40),
			Usage:           focusgroup.Usage{Model: "small-1", TokensIn: int64(400 + i%300), TokensOut: int64(20 + i%60)},
		}
	}
	return made
}
