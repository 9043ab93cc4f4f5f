package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each guarantee that a doc.go numbers is cited by a test of its package.
func TestEachGuaranteeIsCited(t *testing.T) {
	t.Parallel()
	for _, pkg := range []struct {
		folder, number string
		count          int
	}{
		{"eventstore", `(?m)^//  (\d+)\. `, 12},
		{"projection", `(?m)^//\t(P\d+)  `, 6},
		{"projection/analytics", `(?m)^//\t(A\d+)  `, 4},
		{"vectorsearch", `(?m)^//\t(V\d+)  `, 6},
		{"partition", `(?m)^//\t(M\d+)  `, 5},
		{"snapshot", `(?m)^//\t(S\d+)  `, 3},
		{"snapshot/replay", `(?m)^//\t(R\d+)  `, 4},
	} {
		folder := filepath.Join("..", "..", pkg.folder)
		doc, err := os.ReadFile(filepath.Join(folder, "doc.go"))
		require.NoError(t, err)
		numbers := regexp.MustCompile(pkg.number).FindAllStringSubmatch(string(doc), -1)
		require.Len(t, numbers, pkg.count, pkg.folder)
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		require.NoError(t, err)
		var cited strings.Builder
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, sentence := range regexp.MustCompile(`Guarantees? [\dAMPRSV, andto]+`).FindAllString(string(text), -1) {
				cited.WriteString(sentence + "\n")
			}
		}
		for _, number := range numbers {
			require.Regexp(t, `\b`+number[1]+`\b`, cited.String(), "%s: guarantee %s is cited by no test", pkg.folder, number[1])
		}
	}
}
