// Command build makes the table of words that package wordvectors carries.
//
//	go run ./internal/wordvectors/build -vectors $HINDSIGHT_CORPUS/vectors -o internal/wordvectors/words.bin
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sight-platform/hindsight/examples/internal/wordvectors"
)

func main() {
	vectors := flag.String("vectors", "", "the folder of GloVe vectors")
	recordings := flag.String("recordings", "", "the folder of recordings (default: recordings beside the vectors)")
	output := flag.String("o", "words.bin", "the file to write")
	flag.Parse()
	if *vectors == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *recordings == "" {
		*recordings = filepath.Join(filepath.Dir(filepath.Clean(*vectors)), "recordings")
	}
	if err := write(*output, *vectors, *recordings); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

// write replaces the file only when all of it is there.
func write(path, vectors, recordings string) error {
	var table bytes.Buffer
	if err := wordvectors.Build(&table, vectors, recordings); err != nil {
		return err
	}
	return os.WriteFile(path, table.Bytes(), 0o644)
}
