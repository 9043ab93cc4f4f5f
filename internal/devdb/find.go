package devdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestVersion is the oldest major version of PostgreSQL that Hindsight supports.
const oldestVersion = 15

// installation is a PostgreSQL server program on this machine.
type installation struct {
	binDir  string
	version int
	vector  bool // pgvector is there too
}

func (i installation) String() string {
	return fmt.Sprintf("PostgreSQL %d in %s", i.version, i.binDir)
}

// findInstallation returns the newest supported installation with pgvector among the directories.
func findInstallation(ctx context.Context, binDirs []string) (installation, error) {
	var found []installation
	for _, dir := range binDirs {
		if i, ok := inspect(ctx, dir); ok {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return installation{}, errors.New("no server programs found")
	}
	slices.SortStableFunc(found, func(a, b installation) int { return cmp.Compare(b.version, a.version) })

	var rejected []string
	for _, i := range found {
		switch {
		case i.version < oldestVersion:
			rejected = append(rejected, fmt.Sprintf("%v is older than %d", i, oldestVersion))
		case !i.vector:
			rejected = append(rejected, fmt.Sprintf("%v has no pgvector", i))
		default:
			return i, nil
		}
	}
	return installation{}, errors.New(strings.Join(rejected, "; "))
}

// inspect reports what server the directory holds, if any.
func inspect(ctx context.Context, dir string) (installation, bool) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return installation{}, false
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return installation{}, false
	}
	version, ok := majorVersion(string(out))
	if !ok {
		return installation{}, false
	}
	return installation{binDir: dir, version: version, vector: hasVector(ctx, dir, version)}, true
}

// majorVersion reads the version from "postgres (PostgreSQL) 17.2 (Debian …)", "… 18beta1" and the like.
func majorVersion(text string) (int, bool) {
	digits := regexp.MustCompile(`\d+`).FindString(text)
	version, err := strconv.Atoi(digits)
	return version, err == nil
}

// hasVector reports whether pgvector's control file lies where that server looks for extensions.
func hasVector(ctx context.Context, dir string, version int) bool {
	shares := []string{fmt.Sprintf("/usr/share/postgresql/%d", version), filepath.Join(dir, "../share/postgresql"), filepath.Join(dir, "../share")}
	// Some packages keep pg_config apart, with the development files.
	if out, err := exec.CommandContext(ctx, filepath.Join(dir, "pg_config"), "--sharedir").Output(); err == nil {
		shares = []string{strings.TrimSpace(string(out))}
	}
	return slices.ContainsFunc(shares, func(share string) bool {
		_, err := os.Stat(filepath.Join(share, "extension", "vector.control"))
		return err == nil
	})
}

// findBinDirs returns the directories on this machine that may hold server programs, each once.
func findBinDirs(ctx context.Context) []string {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if program, err := exec.LookPath("postgres"); err == nil {
		if program, err = filepath.EvalSymlinks(program); err == nil {
			dirs = append(dirs, filepath.Dir(program))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // Fedora and its kin, with PostgreSQL's own packages
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	} {
		matches, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, matches...)
	}

	var unique []string
	for _, dir := range dirs {
		if resolved, err := filepath.EvalSymlinks(dir); err == nil {
			dir = resolved
		}
		if !slices.Contains(unique, dir) {
			unique = append(unique, dir)
		}
	}
	return unique
}
