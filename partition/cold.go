package partition

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
)

// Cold reads archived months, for [eventstore.Config]. It fetches only the objects that hold what is asked for, checks their
// SHA-256, and keeps them in a directory up to a size. It is safe for concurrent use; a directory serves one Cold at a time.
type Cold struct {
	blob    Blob
	cache   *cache
	decoder decoder

	mu        sync.Mutex
	manifests map[string]*Manifest // by what the registry says of the archive
	indexes   lru[*index]
	frames    lru[[]eventstore.Recorded]
}

var _ eventstore.Cold = (*Cold)(nil)

const (
	keptIndexes = 64 // in memory; a part's index has some megabytes at most
	keptFrames  = 64 // of 1,000 events or 1 MB each: readers that go through a month page by page come back to one
)

// NewCold reads from an archive through a directory for copies of what it has fetched, of at most maxBytes (0: 1 GiB; one object
// is kept in any case). What an earlier process has left there is used.
func NewCold(archive Blob, dir string, maxBytes int64) (*Cold, error) {
	if maxBytes == 0 {
		maxBytes = 1 << 30
	}
	if maxBytes < 0 {
		return nil, &eventstore.InvalidError{Index: -1, Field: "maxBytes", Reason: "is negative"}
	}
	decoder, err := newDecoder()
	if err != nil {
		return nil, err
	}
	cache, err := newCache(archive, dir, maxBytes)
	if err != nil {
		return nil, err
	}
	return &Cold{
		blob: archive, cache: cache, decoder: decoder, manifests: map[string]*Manifest{},
		indexes: newLRU[*index](keptIndexes), frames: newLRU[[]eventstore.Recorded](keptFrames),
	}, nil
}

// Log implements [eventstore.Cold].
func (c *Cold) Log(ctx context.Context, month eventstore.ArchivedMonth, after, upTo eventstore.Position, limit int) ([]eventstore.Recorded, error) {
	manifest, err := c.manifest(ctx, month)
	if err != nil {
		return nil, err
	}
	var events []eventstore.Recorded
	for _, part := range manifest.Parts {
		if part.Last <= after {
			continue
		}
		if part.First > upTo || len(events) == limit {
			break
		}
		x, err := c.index(ctx, month.Month, part)
		if err != nil {
			return nil, err
		}
		from, _ := slices.BinarySearchFunc(x.Frames, after+1, func(f frame, p eventstore.Position) int { return cmp.Compare(f.Last, p) })
		for n := from; n < len(x.Frames) && x.Frames[n].First <= upTo && len(events) < limit; n++ {
			found, err := c.frame(ctx, month.Month, part, x, n)
			if err != nil {
				return nil, err
			}
			for i := range found {
				if found[i].Position > after && found[i].Position <= upTo && len(events) < limit {
					events = append(events, own(found[i]))
				}
			}
		}
	}
	return events, nil
}

// own is an event that its reader may change.
func own(e eventstore.Recorded) eventstore.Recorded {
	e.JSON, e.MetadataJSON = slices.Clone(e.JSON), slices.Clone(e.MetadataJSON)
	return e
}

// Stream implements [eventstore.Cold].
func (c *Cold) Stream(ctx context.Context, month eventstore.ArchivedMonth, id eventstore.StreamID, low, high eventstore.Version) ([]eventstore.Recorded, error) {
	manifest, err := c.manifest(ctx, month)
	if err != nil {
		return nil, err
	}
	var events []eventstore.Recorded
	for _, part := range manifest.Parts {
		x, err := c.index(ctx, month.Month, part)
		if err != nil {
			return nil, err
		}
		for _, n := range x.Of[id] {
			found, err := c.frame(ctx, month.Month, part, x, n)
			if err != nil {
				return nil, err
			}
			for i := range found {
				if found[i].StreamID == id && found[i].Version > high {
					return events, nil
				}
				if found[i].StreamID == id && found[i].Version >= low {
					events = append(events, own(found[i]))
				}
			}
		}
	}
	return events, nil // positions and versions of a stream grow together
}

func (c *Cold) manifest(ctx context.Context, month eventstore.ArchivedMonth) (*Manifest, error) {
	c.mu.Lock()
	known := c.manifests[month.Archive]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if month.Archive == "" {
		return nil, fmt.Errorf("month %s: its archive is not kept any more", month.Month.Format("2006-01"))
	}
	manifest, err := readManifest(ctx, c.blob, month.Month, month.Archive)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manifests[month.Archive] = manifest
	return manifest, nil
}

func (c *Cold) index(ctx context.Context, month time.Time, part Part) (*index, error) {
	return c.indexes.get(&c.mu, part.Index.SHA256, func() (*index, error) {
		content, err := c.cache.whole(ctx, month, part.Index)
		if err != nil {
			return nil, err
		}
		x, err := c.decoder.index(content)
		if err != nil {
			return nil, &DamagedError{Month: month, Key: part.Index.Key, Problem: "cannot be read", Err: err}
		}
		return x, nil
	})
}

// frame hands out events that are shared: they must not be changed.
func (c *Cold) frame(ctx context.Context, month time.Time, part Part, x *index, n int) ([]eventstore.Recorded, error) {
	return c.frames.get(&c.mu, fmt.Sprintf("%s %d", part.Events.SHA256, n), func() ([]eventstore.Recorded, error) {
		piece, err := c.cache.piece(ctx, month, part.Events, x.Frames[n].Offset, x.Frames[n].Bytes)
		if err != nil {
			return nil, err
		}
		events, err := c.decoder.frame(piece)
		if err != nil { // the copy on the disk may be spoilt
			c.cache.forget(part.Events)
			if piece, err = c.cache.piece(ctx, month, part.Events, x.Frames[n].Offset, x.Frames[n].Bytes); err != nil {
				return nil, err
			}
			events, err = c.decoder.frame(piece)
		}
		if err != nil {
			return nil, &DamagedError{Month: month, Key: part.Events.Key, Problem: "cannot be read", Err: err}
		}
		return events, nil
	})
}

// lru keeps the values that were used last.
type lru[V any] struct {
	most   int
	order  *list.List // of entries, the newest first
	byName map[string]*list.Element
}

type entry[V any] struct {
	name  string
	value V
}

func newLRU[V any](most int) lru[V] {
	return lru[V]{most: most, order: list.New(), byName: map[string]*list.Element{}}
}

// get returns a value, made outside the lock if it is not there.
func (l *lru[V]) get(mu *sync.Mutex, name string, make func() (V, error)) (V, error) {
	mu.Lock()
	if found, ok := l.byName[name]; ok {
		l.order.MoveToFront(found)
		mu.Unlock()
		return found.Value.(entry[V]).value, nil
	}
	mu.Unlock()
	value, err := make()
	if err != nil {
		return value, err
	}
	mu.Lock()
	defer mu.Unlock()
	if _, ok := l.byName[name]; !ok {
		l.byName[name] = l.order.PushFront(entry[V]{name, value})
	}
	for l.order.Len() > l.most {
		oldest := l.order.Back()
		delete(l.byName, oldest.Value.(entry[V]).name)
		l.order.Remove(oldest)
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
	busy  map[string]*sync.Mutex // objects that are being fetched: one at a time each
}

func newCache(blob Blob, dir string, most int64) (*cache, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the cache's directory: %w", err)
	}
	c := &cache{blob: blob, dir: dir, most: most, order: list.New(), files: map[string]*list.Element{}, busy: map[string]*sync.Mutex{}}
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

// piece returns a part of an object's bytes. A frame has a checksum of its own.
func (c *cache) piece(ctx context.Context, month time.Time, object Object, offset, length int64) ([]byte, error) {
	if c.use(object) {
		piece, err := readPiece(filepath.Join(c.dir, object.SHA256), object.Bytes, offset, length)
		if err == nil {
			return piece, nil
		}
		c.forget(object)
	}
	content, err := c.fetch(ctx, month, object)
	if err != nil {
		return nil, err
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
		turn = &sync.Mutex{}
		c.busy[object.SHA256] = turn
	}
	c.mu.Unlock()
	turn.Lock()
	defer turn.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.busy, object.SHA256)
	}()
	if content, ok := c.read(object); ok { // somebody has fetched it meanwhile
		return content, nil
	}
	content, err := fetch(ctx, c.blob, month, object)
	if err != nil {
		return nil, err
	}
	if err := c.keep(object, content); err != nil {
		return content, nil //nolint:nilerr // a full disk spoils the cache, not the answer
	}
	c.mu.Lock()
	defer c.mu.Unlock()
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
