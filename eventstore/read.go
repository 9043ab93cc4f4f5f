package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Stream yields the events of a stream after a version (0: from the start), in version order, up to the head that stood
// when the loop began. A stream without events yields nothing. It fetches Config.PageSize events at a time and holds no
// connection while the loop's body runs. An error comes last and once; it matches [ErrInvalid], [ErrCorrupt], or what
// [Codec.Decode] returns.
func (s *Store) Stream(ctx context.Context, id StreamID, after Version) iter.Seq2[Recorded, error] {
	return s.stream(ctx, id, after, func(head Version) versions { return versions{next: after + 1, last: head, step: 1} })
}

// Backward yields the events of a stream before a version (0: from the end), newest first; otherwise as [Store.Stream].
func (s *Store) Backward(ctx context.Context, id StreamID, before Version) iter.Seq2[Recorded, error] {
	return s.stream(ctx, id, before, func(head Version) versions {
		if before > 0 && before <= head {
			head = before - 1
		}
		return versions{next: head, last: 1, step: -1}
	})
}

// versions is what is left to read of a stream: from next to last, both included.
type versions struct {
	next, last Version
	step       Version // 1 or -1
}

func (v versions) len() int { return int((v.last-v.next)*v.step) + 1 }

// stream yields the asked versions and asserts that each of them is there.
func (s *Store) stream(ctx context.Context, id StreamID, bound Version, ask func(head Version) versions) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		if bound < 0 {
			yield(Recorded{}, &InvalidError{Index: -1, Field: "version", Reason: fmt.Sprintf("is %d, they start at 1", bound)})
			return
		}
		head, err := s.Head(ctx, id)
		if errors.Is(err, ErrStreamNotFound) {
			return
		}
		if err != nil {
			yield(Recorded{}, err)
			return
		}
		for left := ask(head.Version); left.len() > 0; {
			page, err := s.streamPage(ctx, head, left)
			if err != nil {
				yield(Recorded{}, err)
				return
			}
			for _, event := range page {
				if err := s.decode(ctx, &event); err != nil {
					yield(Recorded{}, err)
					return
				}
				if !yield(event, nil) {
					return
				}
			}
			left.next += Version(len(page)) * left.step
		}
	}
}

// streamPage reads one page; a hole in it is ErrCorrupt, never a shorter stream.
func (s *Store) streamPage(ctx context.Context, head Head, left versions) ([]Recorded, error) {
	months, _ := s.months.get()
	stale := len(months) == 0 || months[len(months)-1].Before(monthOf(head.LastRecordedAt))
	missing := left.next
	for range 2 {
		if stale && !s.inTx() {
			if err := s.months.load(ctx, s.db, s.sql.months); err != nil {
				return nil, err
			}
		}
		page, err := s.readStreamPage(ctx, head, left)
		if err != nil && pg.Code(err) != pg.UndefinedTable {
			return nil, fmt.Errorf("reading %s: %w", head.StreamID, err)
		}
		if err == nil {
			if missing = left.firstMissing(page, s.config.PageSize); missing == 0 {
				return page, nil
			}
		}
		if s.inTx() {
			break
		}
		stale = true // a leaf may have come or gone since the list was read
	}
	return nil, &CorruptError{StreamID: head.StreamID, Head: head.Version, Version: missing}
}

// firstMissing is the first version that a page should hold and does not; 0 if it is whole.
func (v versions) firstMissing(page []Recorded, pageSize int) Version {
	for i := range min(pageSize, v.len()) {
		want := v.next + Version(i)*v.step
		if i >= len(page) || page[i].Version != want {
			return want
		}
	}
	return 0
}

func (s *Store) readStreamPage(ctx context.Context, head Head, left versions) ([]Recorded, error) {
	low, high, order := left.next, left.last, "version"
	if left.step < 0 {
		low, high, order = left.last, left.next, "version DESC"
	}
	if s.inTx() { // through the parent: it locks the partitions a time bound leaves, but cannot lose one
		return s.collect(ctx, `SELECT `+eventColumns+` FROM `+string(s.sql.schema)+`.events
 WHERE stream_id = $1::text AND version >= $2::bigint AND version <= $3::bigint AND recorded_at >= $5 AND recorded_at <= $6
 ORDER BY `+order+` LIMIT $4::bigint`,
			string(head.StreamID), int64(low), int64(high), s.config.PageSize, head.FirstRecordedAt, head.LastRecordedAt)
	}
	months, _ := s.months.get()
	months = between(months, head.FirstRecordedAt, head.LastRecordedAt)
	if len(months) == 0 {
		return nil, nil
	}
	sql := s.overLeaves(months,
		`SELECT `+eventColumns+` FROM {{leaf}} WHERE stream_id = $1::text AND version >= $2::bigint AND version <= $3::bigint`,
		` ORDER BY `+order+` LIMIT $4::bigint`)
	return s.collect(ctx, sql, string(head.StreamID), int64(low), int64(high), s.config.PageSize)
}

const eventColumns = `position, recorded_at, stream_id, version, event_id, event_type, schema_version, occurred_at, event_data, metadata`

// overLeaves is one statement over the leaves of some months: PostgreSQL merges their indexes, as all have the same.
func (s *Store) overLeaves(months []time.Time, perLeaf, tail string) string {
	parts := make([]string, len(months))
	for i, month := range months {
		parts[i] = strings.ReplaceAll(perLeaf, "{{leaf}}", string(s.sql.schema)+"."+leafOf(month))
	}
	return strings.Join(parts, "\nUNION ALL\n") + tail
}

// collect runs a query for event columns. Data stays nil; see decode.
func (s *Store) collect(ctx context.Context, sql string, args ...any) ([]Recorded, error) {
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEvent)
}

func scanEvent(row pgx.CollectableRow) (e Recorded, err error) {
	err = row.Scan((*int64)(&e.Position), &e.RecordedAt, (*string)(&e.StreamID), (*int64)(&e.Version), &e.ID,
		&e.Type, &e.SchemaVersion, &e.OccurredAt, (*[]byte)(&e.JSON), (*[]byte)(&e.MetadataJSON))
	e.RecordedAt, e.OccurredAt = e.RecordedAt.UTC(), e.OccurredAt.UTC()
	return e, err
}

// decode fills Metadata and Data from the stored bytes.
func (s *Store) decode(ctx context.Context, e *Recorded) error {
	fail := func(kind, cause error) error {
		return &DecodeError{
			StreamID: e.StreamID, Version: e.Version, Position: e.Position,
			Type: e.Type, SchemaVersion: e.SchemaVersion, Kind: kind, Err: cause,
		}
	}
	if len(e.MetadataJSON) > 2 { // {} is the common case
		if err := json.Unmarshal(e.MetadataJSON, &e.Metadata); err != nil {
			return fail(ErrBadBody, err)
		}
	}
	raw := Raw{Type: e.Type, SchemaVersion: e.SchemaVersion, JSON: e.JSON}
	if e.Metadata.KeyID != "" {
		if s.config.Cipher.Decode == nil {
			return fail(ErrCipher, errors.New("the store has no Cipher.Decode"))
		}
		body, err := s.config.Cipher.Decode(ctx, CipherInfo{StreamID: e.StreamID, Type: e.Type, Metadata: e.Metadata, JSON: e.JSON})
		if err != nil {
			return fail(ErrCipher, err)
		}
		raw.JSON = body
	}
	if s.config.Codec == nil {
		e.Data = raw
		return nil
	}
	payload, err := s.config.Codec.Decode(raw)
	if err != nil {
		var decode *DecodeError
		if errors.As(err, &decode) {
			return fail(decode.Kind, decode.Err)
		}
		return fail(ErrBadBody, err)
	}
	e.Data = payload
	return nil
}
