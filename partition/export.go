package partition

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
)

// export writes the objects of a sealed month, the manifest last, and notes the manifest. It goes on after the parts that an
// earlier run has finished.
func (k *keeper) export(ctx context.Context, m Month) error {
	if k.config.Archive == nil {
		return fmt.Errorf("exporting month %s: %w", m, ErrNoArchive)
	}
	manifest, content, err := k.exported(ctx, m)
	if err != nil {
		return err
	}
	if manifest == nil {
		if manifest, err = k.exportParts(ctx, m); err != nil {
			return err
		}
		if content, err = json.MarshalIndent(manifest, "", "  "); err != nil {
			return err
		}
		if err := putSame(ctx, k.config.Archive, manifestKey(m.Month), content); err != nil {
			return fmt.Errorf("writing the manifest: %w", err)
		}
	}
	tag, err := k.conn.Exec(ctx, k.sql["exported"], m.date(), archiveOf(describe(manifestKey(m.Month), content)))
	if err == nil && tag.RowsAffected() == 0 {
		err = errMoved
	}
	return err
}

// exported is the manifest that an earlier run has written and not noted.
func (k *keeper) exported(ctx context.Context, m Month) (*Manifest, []byte, error) {
	content, err := k.config.Archive.Get(ctx, manifestKey(m.Month))
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("looking for a manifest: %w", err)
	}
	manifest, err := parseManifest(m.Month, manifestKey(m.Month), content)
	if err != nil {
		return nil, nil, err
	}
	if manifest.Digest != hex.EncodeToString(m.Digest) || manifest.Rows != m.Rows {
		return nil, nil, &DamagedError{Month: m.Month, Key: manifestKey(m.Month), Problem: "describes other events: does another log write to this archive?"}
	}
	return manifest, content, nil
}

// exportParts writes the parts that are not there yet.
func (k *keeper) exportParts(ctx context.Context, m Month) (*Manifest, error) {
	manifest := &Manifest{
		Format: format, Schema: k.schema, Month: m.String(), Rows: m.Rows, First: m.First, Last: m.Last, Digest: hex.EncodeToString(m.Digest),
	}
	err := k.conn.QueryRow(ctx, k.on(m, "facts")).Scan(&manifest.SchemaVersion, &manifest.Streams)
	if err != nil {
		return nil, err
	}
	if manifest.Parts, err = k.finishedParts(ctx, m); err != nil {
		return nil, err
	}
	writer, err := newPartWriter(k.rows)
	if err != nil {
		return nil, err
	}
	end := func() error {
		part, err := k.putPart(ctx, m, writer, len(manifest.Parts))
		manifest.Parts = append(manifest.Parts, part)
		writer.reset()
		k.config.Progress(Progress{Month: m.Month, Step: "export", Rows: manifest.rows(), Of: m.Rows})
		return err
	}
	after := eventstore.Position(0)
	if n := len(manifest.Parts); n > 0 {
		after = manifest.Parts[n-1].Last
	}
	if err := k.eachPage(ctx, m, after, func(events []eventstore.Recorded) error {
		for i := range events {
			if err := writer.add(&events[i]); err != nil {
				return err
			}
			if !writer.full() {
				continue
			}
			if err := end(); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("exporting month %s: %w", m, err)
	}
	if writer.index.Part.Rows > 0 {
		if err := end(); err != nil {
			return nil, fmt.Errorf("exporting month %s: %w", m, err)
		}
	}
	if rows := manifest.rows(); rows != m.Rows {
		return nil, &ChangedError{Month: m.Month, Where: "the table", Rows: rows, Sealed: m.Rows}
	}
	for i, part := range manifest.Parts {
		if i == 0 {
			manifest.FirstRecorded = part.FirstRecorded
		}
		manifest.FirstRecorded, manifest.LastRecorded = earlier(manifest.FirstRecorded, part.FirstRecorded), later(manifest.LastRecorded, part.LastRecorded)
	}
	return manifest, nil
}

func (m *Manifest) rows() (n int64) {
	for _, part := range m.Parts {
		n += part.Rows
	}
	return n
}

// finishedParts are those whose index is there.
func (k *keeper) finishedParts(ctx context.Context, m Month) (parts []Part, err error) {
	decoder, err := newDecoder()
	if err != nil {
		return nil, err
	}
	for {
		key := folder(m.Month) + partName(len(parts), "index.zst")
		content, err := k.config.Archive.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			return parts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		x, _, err := decoder.index(content)
		if err != nil {
			return nil, &DamagedError{Month: m.Month, Key: key, Problem: "cannot be read", Err: err}
		}
		part := x.Part
		part.Index = describe(key, content)
		parts = append(parts, part)
	}
}

// putPart writes the objects of a part. What a killed run left of a part without an index has the same bytes, unless another release
// of a library encodes them otherwise. It is never replaced: who has lost the lock without knowing it must not destroy what
// another run has verified.
func (k *keeper) putPart(ctx context.Context, m Month, w *partWriter, n int) (Part, error) {
	contents, part, err := w.objects(m.Month, n)
	if err != nil {
		return part, err
	}
	for i, object := range []Object{part.Events, part.Parquet, part.Index} {
		err := putSame(ctx, k.config.Archive, object.Key, contents[i])
		if errors.Is(err, ErrExists) {
			return part, &DamagedError{Month: m.Month, Key: object.Key, Problem: "is of another export, which has not ended: delete the month's objects, and archive it again", Err: err}
		}
		if err != nil {
			return part, fmt.Errorf("writing %s: %w", object.Key, err)
		}
	}
	return part, nil
}

// What a statement reads at once: none stays open, with its snapshot, while the archive is written to.
const (
	pageRows  = 10_000
	pageBytes = 8 << 20
)

// page is a stretch of a month's events.
type page struct {
	events []eventstore.Recorded
	last   bool
	err    error
}

// eachPage reads a month's events in position order, the next page while f is at work with one.
func (k *keeper) eachPage(ctx context.Context, m Month, after eventstore.Position, f func([]eventstore.Recorded) error) error {
	pages, stop := make(chan page), make(chan struct{})
	go func() {
		defer close(pages)
		for limit := 1000; ; {
			found := k.page(ctx, m, after, &limit)
			select {
			case pages <- found:
			case <-stop:
				return
			}
			if found.last || found.err != nil {
				return
			}
			after = found.events[len(found.events)-1].Position
		}
	}()
	defer func() { // the connection is free again when the goroutine has ended; a cancelled statement would cost it
		close(stop)
		for range pages {
		}
	}()
	for found := range pages {
		if found.err != nil {
			return found.err
		}
		if err := f(found.events); err != nil {
			return err
		}
	}
	return nil
}

// page reads at most limit events, and fewer where they are large; limit becomes what may fit the next time.
func (k *keeper) page(ctx context.Context, m Month, after eventstore.Position, limit *int) (p page) {
	rows, err := k.conn.Query(ctx, k.on(m, "rows"), int64(after), *limit)
	if err != nil {
		return page{err: err}
	}
	defer rows.Close()
	p.events = make([]eventstore.Recorded, 0, *limit)
	bytes := 0
	for bytes < pageBytes && rows.Next() {
		p.events = append(p.events, eventstore.Recorded{})
		e := &p.events[len(p.events)-1]
		if err := rows.Scan((*int64)(&e.Position), &e.RecordedAt, (*string)(&e.StreamID), (*int64)(&e.Version), &e.ID, &e.Type, &e.SchemaVersion,
			&e.OccurredAt, (*[]byte)(&e.JSON), (*[]byte)(&e.MetadataJSON)); err != nil {
			return page{err: err}
		}
		bytes += len(e.JSON) + len(e.MetadataJSON)
	}
	rows.Close()
	p.last, p.err = bytes < pageBytes && len(p.events) < *limit, rows.Err()
	if *limit = min(2*len(p.events), pageRows); bytes >= pageBytes {
		*limit = len(p.events)
	}
	return p
}
