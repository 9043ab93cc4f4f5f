package partition

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// lru keeps the values that were used last, up to a size, and one in any case.
type lru[V any] struct {
	most, size int
	order      *list.List // of entries, the newest first
	byName     map[string]*list.Element
}

type entry[V any] struct {
	name  string
	value V
	size  int
}

func newLRU[V any](most int) lru[V] {
	return lru[V]{most: most, order: list.New(), byName: map[string]*list.Element{}}
}

// get returns a value, made outside the lock if it is not there.
func (l *lru[V]) get(mu *sync.Mutex, name string, make func() (V, int, error)) (V, error) {
	mu.Lock()
	if found, ok := l.byName[name]; ok {
		l.order.MoveToFront(found)
		mu.Unlock()
		return found.Value.(entry[V]).value, nil
	}
	mu.Unlock()
	value, size, err := make()
	if err != nil {
		return value, err
	}
	mu.Lock()
	defer mu.Unlock()
	if _, ok := l.byName[name]; !ok {
		l.byName[name] = l.order.PushFront(entry[V]{name, value, size})
		l.size += size
	}
	for l.size > l.most && l.order.Len() > 1 {
		oldest := l.order.Remove(l.order.Back()).(entry[V])
		delete(l.byName, oldest.name)
		l.size -= oldest.size
	}
	return value, nil
}

// cache keeps objects in files that are named after their SHA-256.
type cache struct {
	blob Blob
	dir  string
	most int64

	mu    sync.Mutex
	bytes int64
	order *list.List // of Object, the one used last first
	files map[string]*list.Element
	busy  map[string]chan struct{} // objects that are being fetched: one at a time each

	held    Object // the last one that the directory did not take
	content []byte
}

func newCache(blob Blob, dir string, most int64) (*cache, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the cache's directory: %w", err)
	}
	c := &cache{blob: blob, dir: dir, most: most, order: list.New(), files: map[string]*list.Element{}, busy: map[string]chan struct{}{}}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range found {
		info, err := file.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if len(file.Name()) != 2*sha256.Size { // of a process that was killed
			if filepath.Ext(file.Name()) == ".unfinished" {
				_ = os.Remove(filepath.Join(dir, file.Name()))
			}
			continue
		}
		c.note(Object{SHA256: file.Name(), Bytes: info.Size()})
	}
	c.shrink()
	return c, nil
}

// whole returns an object's bytes; they are checked when they are fetched and when they are read from the directory.
func (c *cache) whole(ctx context.Context, month time.Time, object Object) ([]byte, error) {
	if content, ok := c.read(object); ok {
		return content, nil
	}
	return c.fetch(ctx, month, object)
}

// read reads an object from the directory, if it is there as it was fetched.
func (c *cache) read(object Object) ([]byte, bool) {
	if content, ok := c.inMemory(object); ok {
		return content, true
	}
	if !c.use(object) {
		return nil, false
	}
	content, err := os.ReadFile(filepath.Join(c.dir, object.SHA256))
	if err == nil && describe(object.Key, content) == object {
		return content, true
	}
	c.forget(object) // removed or spoilt by somebody
	return nil, false
}

func (c *cache) inMemory(object Object) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.content, c.content != nil && c.held == object
}

// piece returns a part of an object's bytes. A frame has a checksum of its own.
func (c *cache) piece(ctx context.Context, month time.Time, object Object, offset, length int64) ([]byte, error) {
	if c.use(object) {
		piece, err := readPiece(filepath.Join(c.dir, object.SHA256), object.Bytes, offset, length)
		if err == nil {
			return piece, nil
		}
		c.forget(object)
	}
	content, ok := c.inMemory(object)
	if !ok {
		var err error
		if content, err = c.fetch(ctx, month, object); err != nil {
			return nil, err
		}
	}
	if offset < 0 || length < 1 || offset+length > int64(len(content)) {
		return nil, &DamagedError{Month: month, Key: object.Key, Problem: "is shorter than its index says"}
	}
	return content[offset : offset+length], nil
}

func readPiece(path string, size, offset, length int64) (piece []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil || info.Size() != size || offset+length > size {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	piece = make([]byte, length)
	_, err = file.ReadAt(piece, offset)
	return piece, err
}

func (c *cache) fetch(ctx context.Context, month time.Time, object Object) ([]byte, error) {
	c.mu.Lock()
	turn := c.busy[object.SHA256]
	if turn == nil {
		turn = make(chan struct{}, 1)
		c.busy[object.SHA256] = turn
	}
	c.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.busy, object.SHA256)
		<-turn
	}()
	if content, ok := c.read(object); ok { // somebody has fetched it meanwhile
		return content, nil
	}
	content, err := fetch(ctx, c.blob, month, object)
	if err != nil {
		return nil, err
	}
	err = c.keep(object, content)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil { // a full disk spoils the cache, not the answer: frame by frame, one object serves
		c.held, c.content = object, content
		return content, nil
	}
	c.note(object)
	c.shrink()
	return content, nil
}

// keep writes an object's file, whole under its name.
func (c *cache) keep(object Object, content []byte) error {
	file, err := os.CreateTemp(c.dir, "*.unfinished")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), filepath.Join(c.dir, object.SHA256))
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

func (c *cache) use(object Object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.files[object.SHA256]
	if ok {
		c.order.MoveToFront(found)
	}
	return ok
}

func (c *cache) note(object Object) {
	if _, ok := c.files[object.SHA256]; !ok {
		c.files[object.SHA256] = c.order.PushFront(object)
		c.bytes += object.Bytes
	}
}

func (c *cache) forget(object Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.files[object.SHA256]; ok {
		c.drop(found)
	}
}

func (c *cache) drop(element *list.Element) {
	object := element.Value.(Object)
	c.order.Remove(element)
	delete(c.files, object.SHA256)
	c.bytes -= object.Bytes
	_ = os.Remove(filepath.Join(c.dir, object.SHA256))
}

// shrink removes what was used longest ago.
func (c *cache) shrink() {
	for c.bytes > c.most && c.order.Len() > 1 {
		c.drop(c.order.Back())
	}
}
