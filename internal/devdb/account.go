package devdb

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// account is an unprivileged user that runs a server for a process of root: PostgreSQL refuses to run as root.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns who runs a server: nil, ourselves, unless we are root.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("we are root, and there is neither a user postgres nor nobody to run a server as")
}

// makeDir makes a temporary directory under parent that only the account and root may enter.
func makeDir(parent string, owner *account) (string, error) {
	dir, err := os.MkdirTemp(parent, "hindsight-pg-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the server: %w", err)
	}
	if owner == nil {
		return dir, nil
	}
	if err := os.Chown(dir, int(owner.uid), int(owner.gid)); err != nil {
		_ = os.Remove(dir)
		return "", fmt.Errorf("give %s its directory: %w", owner.name, err)
	}
	return dir, nil
}

// tempDir returns the system's temporary directory, or /tmp where the account could not get through to it.
func tempDir(as *account) string {
	dir, err := filepath.Abs(os.TempDir()) // the server runs in another directory
	if err != nil {
		return "/tmp"
	}
	if as == nil {
		return dir
	}
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil || info.Mode()&0o001 == 0 {
			return "/tmp"
		}
		if path == filepath.Dir(path) {
			return dir
		}
	}
}
