package devdb

import (
	"fmt"
	"strings"
)

// UnavailableError says that no database could be found or started, and why each source had none.
type UnavailableError struct {
	// Tried lists the sources in the order they were asked.
	Tried []Attempt
}

// Attempt is one source of databases, and why it had none.
type Attempt struct {
	// Source names it for people: "Docker".
	Source string
	// Err is the reason.
	Err error
}

// Error names the command to run first, then one reason a line.
func (e *UnavailableError) Error() string {
	var text strings.Builder
	text.WriteString("no PostgreSQL with pgvector for tests and examples: run `make setup`, or set " + urlVariable + " to a database")
	for _, attempt := range e.Tried {
		fmt.Fprintf(&text, "\n  %s: %v", attempt.Source, attempt.Err)
	}
	return text.String()
}

// Unwrap returns the reasons.
func (e *UnavailableError) Unwrap() []error {
	reasons := make([]error, len(e.Tried))
	for i, attempt := range e.Tried {
		reasons[i] = attempt.Err
	}
	return reasons
}
