package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Blob keeps the objects of archives: [Dir] on a disk; partition/s3blob, a module of its own, in an S3-compatible store. It may be called
// concurrently. Keys are paths with slashes, of letters, digits and "-_.=/".
type Blob interface {
	// Put writes an object all or nothing and durably. It returns ErrExists, and changes nothing, if there is one of this key: which may
	// be the one that it has written itself, where an answer was lost.
	Put(ctx context.Context, key string, content []byte) error
	// Get reads an object, or returns ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// Delete removes an object; that there is none is no error.
	Delete(ctx context.Context, key string) error
	// List returns the keys that begin with a prefix, in order.
	List(ctx context.Context, prefix string) ([]string, error)
}

// Dir is a [Blob] in a directory. Objects become visible under their names when they are whole and on the disk.
type Dir struct{ root string }

// NewDir makes the directory if it is not there.
func NewDir(root string) (*Dir, error) {
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, fmt.Errorf("making the archive's directory: %w", err)
	}
	return &Dir{root: root}, nil
}

// unfinished begins the names of objects that are being written; those of a killed process are of no harm.
const unfinished = ".unfinished-"

func (d *Dir) path(key string) (string, error) {
	if !fs.ValidPath(key) || key == "." || strings.HasPrefix(filepath.Base(key), unfinished) {
		return "", fmt.Errorf("%q cannot be the key of an object", key)
	}
	return filepath.Join(d.root, filepath.FromSlash(key)), nil
}

// Put writes to a file of another name, and links it to its own, which the system does only if there is none.
func (d *Dir) Put(_ context.Context, key string, content []byte) (err error) {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	file, err := os.CreateTemp(folder, unfinished)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = file.Write(content)
	if err == nil {
		err = errors.Join(file.Chmod(0o640), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", key, err)
	}
	if err = os.Link(file.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", key, ErrExists)
	}
	if err != nil {
		return err
	}
	for parent := folder; ; parent = filepath.Dir(parent) { // the names, too, have to survive a crash
		if err := syncDir(parent); err != nil {
			return err
		}
		if parent == filepath.Clean(d.root) {
			return nil
		}
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Get reads the file.
func (d *Dir) Get(_ context.Context, key string) ([]byte, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	return content, err
}

// Delete removes the file.
func (d *Dir) Delete(_ context.Context, key string) error {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List walks the directory.
func (d *Dir) List(_ context.Context, prefix string) (keys []string, err error) {
	err = fs.WalkDir(os.DirFS(d.root), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && !strings.HasPrefix(path+"/", prefix) && !strings.HasPrefix(prefix, path+"/") {
			return fs.SkipDir
		}
		if !entry.IsDir() && strings.HasPrefix(path, prefix) && !strings.HasPrefix(entry.Name(), unfinished) {
			keys = append(keys, path)
		}
		return nil
	})
	return keys, err
}

// putSame puts an object that may have been put before; one of other content is ErrExists.
func putSame(ctx context.Context, blob Blob, key string, content []byte) error {
	err := blob.Put(ctx, key, content)
	if !errors.Is(err, ErrExists) {
		return err
	}
	there, getErr := blob.Get(ctx, key)
	if getErr != nil {
		return errors.Join(err, getErr)
	}
	if !bytes.Equal(there, content) {
		return err
	}
	return nil
}
