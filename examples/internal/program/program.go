// Package program runs an example as a new user would.
package program

import (
	"os"
	"os/exec"
	"testing"

	"github.com/sight-platform/hindsight/internal/devdb"
)

// Output is what the program in the test's folder prints, on a server of its own: it uses the default schema.
func Output(t *testing.T) string {
	t.Helper()
	cluster, err := devdb.StartCluster(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	program := exec.CommandContext(t.Context(), "go", "run", ".")
	program.Env = append(os.Environ(), "DATABASE_URL="+cluster.URL())
	output, err := program.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}
