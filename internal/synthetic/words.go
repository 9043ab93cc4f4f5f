package synthetic

import (
	"math/rand/v2"
	"strings"
)

func names() []string {
	return []string{"Anna", "Łukasz", "Zoë", "José", "李雷", "O'Brien", "Ania \"Ruda\" Nowak", "Müller", "Ewa", "Jan"}
}

func occupations() []string {
	return []string{"nurse", "teacher", "piekarz", "driver", "engineer", "student", "retired", "sprzedawca"}
}

func questions() []string {
	return []string{
		"What do you think of the packaging?", "Ile to powinno kosztować?", "Would you buy it again?", "Who is it for?", "What would you change?", "Anything else?",
	}
}

// texts are what is said; turns share them.
func texts(random *rand.Rand) []string {
	words := strings.Fields(`the a of it is I would buy red box price colour maybe not really because my family likes Kolor opakowania
jest dla mnie ważny nie wiem może tak cena za wysoka The It It's to się że ale bardzo ładne – naprawdę «super» 100% ok`)
	texts := make([]string, 2048)
	for i := range texts {
		said := make([]string, 1+int(random.ExpFloat64()*20))
		for w := range said {
			said[w] = words[random.IntN(len(words))]
		}
		texts[i] = strings.Join(said, " ")
	}
	return texts
}
