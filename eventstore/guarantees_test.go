package eventstore_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each guarantee that doc.go numbers is cited by a test of this package.
func TestEachGuaranteeIsCited(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	numbers := regexp.MustCompile(`(?m)^//  (\d+)\. `).FindAllStringSubmatch(string(doc), -1)
	require.Len(t, numbers, 12)
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var cited strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, sentence := range regexp.MustCompile(`Guarantees? [\d, and]+`).FindAllString(string(text), -1) {
			cited.WriteString(sentence + "\n")
		}
	}
	for _, number := range numbers {
		require.Regexp(t, `\b`+number[1]+`\b`, cited.String(), "guarantee %s is cited by no test", number[1])
	}
}
