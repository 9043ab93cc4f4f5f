package partition

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
)

// export writes the objects of a sealed month, the manifest last, and notes the manifest. It goes on after the parts that an
// earlier run has finished.
func (k *keeper) export(ctx context.Context, m registered) error {
	if k.config.Archive == nil {
		return fmt.Errorf("exporting month %s: %w", m, ErrNoArchive)
	}
	log, err := k.log(ctx)
	if err != nil {
		return err
	}
	manifest, content, err := k.exported(ctx, m, log)
	if err != nil {
		return err
	}
	if manifest == nil {
		if manifest, err = k.exportParts(ctx, m, log); err != nil {
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

// log is what archives know the log by.
func (k *keeper) log(ctx context.Context) (id uuid.UUID, err error) {
	err = k.conn.QueryRow(ctx, k.quoted.SQL(`SELECT id FROM {{schema}}.partition_log`)).Scan(&id)
	return id, err
}

// exported is the manifest that an earlier run has written and not noted.
func (k *keeper) exported(ctx context.Context, m registered, log uuid.UUID) (*Manifest, []byte, error) {
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
	if manifest.Log != log {
		return nil, nil, otherLog(m.Month, manifestKey(m.Month))
	}
	if manifest.Digest != hex.EncodeToString(m.Digest) || manifest.Rows != m.Rows {
		return nil, nil, &DamagedError{Month: m.Month, Key: manifestKey(m.Month), Problem: "describes other events than were sealed"}
	}
	return manifest, content, nil
}

func otherLog(month time.Time, key string) error {
	return fmt.Errorf("month %s: %s: %w", month.Format("2006-01"), key, ErrOtherLog)
}

// exportParts writes the parts that are not there yet.
func (k *keeper) exportParts(ctx context.Context, m registered, log uuid.UUID) (*Manifest, error) {
	manifest := &Manifest{
		Format: format, Log: log, Schema: k.schema, Month: m.String(), Rows: m.Rows, First: m.First, Last: m.Last, Digest: hex.EncodeToString(m.Digest),
	}
	if err := k.conn.QueryRow(ctx, k.quoted.SQL(`SELECT count(*) FROM {{schema}}.migrations WHERE line = 'eventstore'`)).Scan(&manifest.SchemaVersion); err != nil {
		return nil, err
	}
	if err := k.finishedParts(ctx, m, manifest); err != nil {
		return nil, err
	}
	writer, err := k.newParts(ctx, m, manifest)
	if err != nil {
		return nil, err
	}
	defer writer.close()
	after := eventstore.Position(0)
	if n := len(manifest.Parts); n > 0 {
		after = manifest.Parts[n-1].Last
	}
	err = k.eachChunk(ctx, m, after, writer.add)
	if err == nil {
		err = writer.end()
	}
	if err != nil {
		return nil, fmt.Errorf("exporting month %s: %w", m, err)
	}
	if rows := manifest.rows(); rows != m.Rows {
		return nil, &ChangedError{Month: m.Month, Where: "the table", Rows: rows, Sealed: m.Rows}
	}
	return manifest, nil
}

// finishedParts adds those to the manifest whose index is there.
func (k *keeper) finishedParts(ctx context.Context, m registered, manifest *Manifest) error {
	decoder, err := newDecoder()
	if err != nil {
		return err
	}
	for {
		key := folder(m.Month) + partName(len(manifest.Parts), "index.zst")
		content, err := k.config.Archive.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", key, err)
		}
		x, _, err := decoder.index(content)
		if err != nil {
			return &DamagedError{Month: m.Month, Key: key, Problem: "cannot be read", Err: err}
		}
		if x.Log != manifest.Log {
			return otherLog(m.Month, key)
		}
		part := x.Part
		part.Index = describe(key, content)
		manifest.add(part, x.Of)
	}
}

// parts divides events into parts, and writes one while the next is filled.
type parts struct {
	*partWriter
	next  func() (*partWriter, error)
	write func(*partWriter) error

	writing chan error // of the part before; nil where there is none
}

func (k *keeper) newParts(ctx context.Context, m registered, manifest *Manifest) (*parts, error) {
	p := &parts{next: func() (*partWriter, error) { return newPartWriter(manifest.Log, k.rows) }}
	p.write = func(w *partWriter) error {
		part, err := k.putPart(ctx, m, w, len(manifest.Parts))
		if err == nil {
			manifest.add(part, w.index.Of)
			k.config.Progress(Progress{Month: m.Month, Step: "export", Rows: manifest.rows(), Of: m.Rows})
		}
		return err
	}
	var err error
	p.partWriter, err = p.next()
	return p, err
}

func (p *parts) add(rows []row) (err error) {
	for i := range rows {
		if p.full() {
			if err := p.wait(); err != nil {
				return err
			}
			full := p.partWriter
			p.writing = make(chan error, 1)
			go func() { p.writing <- p.write(full) }()
			if p.partWriter, err = p.next(); err != nil {
				return err
			}
		}
		p.partWriter.add(&rows[i])
	}
	return nil
}

// wait waits for the part before.
func (p *parts) wait() (err error) {
	if p.writing != nil {
		err = <-p.writing
		p.writing = nil
	}
	return err
}

// end writes what is left.
func (p *parts) end() error {
	if err := p.wait(); err != nil || p.index.Part.Rows == 0 {
		return err
	}
	return p.write(p.partWriter)
}

func (p *parts) close() {
	_ = p.wait()
	if p.partWriter != nil {
		p.partWriter.close()
	}
}

// putPart writes the objects of a part. What a killed run left of a part without an index has the same bytes, unless another release
// of a library encodes them otherwise. It is never replaced: who has lost the lock without knowing it must not destroy what
// another run has verified.
func (k *keeper) putPart(ctx context.Context, m registered, w *partWriter, n int) (Part, error) {
	contents, part, err := w.objects(m.Month, n)
	if err != nil {
		return part, err
	}
	for i, object := range []Object{part.Events, part.Parquet, part.Index} {
		err := putSame(ctx, k.config.Archive, object.Key, contents[i])
		if errors.Is(err, ErrExists) {
			return part, &DamagedError{Month: m.Month, Key: object.Key, Problem: "is of another export, which has not ended: if no other log writes here, delete the month's objects, and archive it again", Err: err}
		}
		if err != nil {
			return part, fmt.Errorf("writing %s: %w", object.Key, err)
		}
	}
	return part, nil
}
