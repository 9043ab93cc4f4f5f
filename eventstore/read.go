package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// Stream yields the events of a stream after a version (0: from the start), in version order, up to the head that stood
// when the loop began. A stream without events yields nothing. Months that were archived are read through [Config.Cold]. It fetches Config.PageSize events at a time and holds no
// connection while the loop's body runs. An error comes last and once; it matches [ErrInvalid], [ErrArchived],
// [ErrCorrupt], or what [Codec.Decode] returns.
func (s *Store) Stream(ctx context.Context, id StreamID, after Version) iter.Seq2[Recorded, error] {
	return s.stream(ctx, id, after, s.decode, func(head Version) versions { return versions{next: after + 1, last: head, step: 1} })
}

// StreamTo is [Store.Stream] up to a version, included; no more than that is fetched.
func (s *Store) StreamTo(ctx context.Context, id StreamID, after, to Version) iter.Seq2[Recorded, error] {
	return s.stream(ctx, id, min(after, to), s.decode, func(head Version) versions { return versions{next: after + 1, last: min(head, to), step: 1} })
}

// Backward yields the events of a stream before a version (0: from the end), newest first; otherwise as [Store.Stream].
func (s *Store) Backward(ctx context.Context, id StreamID, before Version) iter.Seq2[Recorded, error] {
	return s.stream(ctx, id, before, s.decode, backwardFrom(before))
}

func backwardFrom(before Version) func(head Version) versions {
	return func(head Version) versions {
		if before > 0 && before <= head {
			head = before - 1
		}
		return versions{next: head, last: 1, step: -1}
	}
}

// LastOccurred is the version of the last event of a stream that had occurred by a time; 0 if there is none. Events before it
// may have occurred later.
func (s *Store) LastOccurred(ctx context.Context, id StreamID, by time.Time) (Version, error) {
	if err := id.Validate(); err != nil {
		return 0, err
	}
	var last Version
	var partly bool
	err := s.db.QueryRow(ctx, s.sql.lastOccurred, string(id), by).Scan((*int64)(&last), &partly)
	if err != nil {
		return 0, fmt.Errorf("looking for what had occurred in %s: %w", id, err)
	}
	if partly {
		return s.lastOccurredByReading(ctx, id, by)
	}
	return last, nil
}

// versions is what is left to read of a stream: from next to last, both included.
type versions struct {
	next, last Version
	step       Version // 1 or -1
}

func (v versions) len() int { return int((v.last-v.next)*v.step) + 1 }

// stream yields the asked versions and asserts that each of them is there.
func (s *Store) stream(ctx context.Context, id StreamID, bound Version, decode func(context.Context, *Recorded) error, ask func(head Version) versions) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		if bound < 0 {
			yield(Recorded{}, &InvalidError{Index: -1, Field: "version", Reason: fmt.Sprintf("is %d, they start at 1", bound)})
			return
		}
		head, page, err := s.openStream(ctx, id, ask)
		if errors.Is(err, ErrStreamNotFound) {
			return
		}
		if err != nil {
			yield(Recorded{}, err)
			return
		}
		for left := ask(head.Version); left.len() > 0; {
			if left.firstMissing(page, s.config.PageSize) != 0 {
				if page, err = s.streamPage(ctx, page, head, left); err != nil {
					yield(Recorded{}, err)
					return
				}
			}
			for i := range page {
				if err := decode(ctx, &page[i]); err != nil {
					yield(Recorded{}, err)
					return
				}
				if !yield(page[i], nil) {
					return
				}
			}
			left.next += Version(len(page)) * left.step
			head.readTo(page[len(page)-1].RecordedAt, left.step)
		}
	}
}

// readTo narrows the months in which the rest of a stream lies: recorded times never fall within a stream.
func (h *Head) readTo(recorded time.Time, step Version) {
	if step > 0 {
		h.FirstRecordedAt = recorded
	} else {
		h.LastRecordedAt = recorded
	}
}

// openStream reads the head, and in the same round trip a first page from the month in which the stream is likely to lie.
// The page holds what it holds: the caller asserts that nothing is missing.
func (s *Store) openStream(ctx context.Context, id StreamID, ask func(head Version) versions) (Head, []Recorded, error) {
	months, _, _ := s.months.get()
	if s.inTx() || len(months) == 0 {
		head, err := s.Head(ctx, id)
		return head, nil, err
	}
	if err := id.Validate(); err != nil {
		return Head{}, nil, err
	}
	asked := ask(math.MaxInt64) // the head is not known yet
	sql, args := s.streamPageSQL(id, []time.Time{likelyMonth(id, months)}, asked)
	var batch pgx.Batch
	batch.Queue(s.sql.head, string(id))
	batch.Queue(sql, args...)
	results := s.db.SendBatch(ctx, &batch)
	head, err := scanHead(results.QueryRow(), id)
	if pg.Code(err) == pg.UndefinedTable { // the month left since the list was read; the batch failed before it began
		_ = results.Close()
		if err := s.months.load(ctx, s.db, s.sql.months); err != nil {
			return Head{}, nil, err
		}
		head, err = s.Head(ctx, id)
		return head, nil, err
	}
	if err != nil {
		return Head{}, nil, errors.Join(err, results.Close())
	}
	var page []Recorded
	rows, err := results.Query()
	if err == nil {
		page, err = scanEvents(rows, nil)
	}
	if err = errors.Join(err, results.Close()); pg.Code(err) == pg.UndefinedTable {
		return head, nil, nil
	}
	if err != nil {
		return Head{}, nil, fmt.Errorf("reading %s: %w", id, err)
	}
	page = slices.DeleteFunc(page, func(e Recorded) bool { return e.Version > head.Version }) // appended in between
	return head, page, nil
}

// likelyMonth is the month in which a stream was begun, by the version 7 UUID that its id ends in; else the newest.
func likelyMonth(id StreamID, months []time.Time) time.Time {
	if n := len(id) - 36; n > 0 {
		if made, err := uuid.Parse(string(id[n:])); err == nil && made.Version() == 7 {
			if i := slices.Index(months, monthOf(madeAt(made))); i >= 0 {
				return months[i]
			}
		}
	}
	now := monthOf(time.Now())
	if slices.Contains(months, now) {
		return now
	}
	return months[len(months)-1]
}

// streamPage reads one page into a buffer; a hole in it is ErrArchived or ErrCorrupt, never a shorter stream.
func (s *Store) streamPage(ctx context.Context, buffer []Recorded, head Head, left versions) ([]Recorded, error) {
	months, _, _ := s.months.get()
	stale := len(months) == 0 || months[len(months)-1].Before(monthOf(head.LastRecordedAt))
	missing := left.next
	for range 2 {
		if stale {
			if err := s.months.load(ctx, s.db, s.sql.months); err != nil {
				return nil, err
			}
		}
		online, archived, _ := s.months.get()
		page, err := s.readStreamPage(ctx, buffer, head, left, online)
		if err != nil && (pg.Code(err) != pg.UndefinedTable || s.inTx()) {
			return nil, fmt.Errorf("reading %s: %w", head.StreamID, gone(err))
		}
		if err == nil {
			if missing = left.firstMissing(page, s.config.PageSize); missing == 0 {
				return page, nil
			}
			page, err = s.fillFromArchive(ctx, page, head, left, archived)
			if err != nil && stale { // else the month may have been restored since the list was read
				return nil, err
			}
			if missing = left.firstMissing(page, s.config.PageSize); err == nil && missing == 0 {
				return page, nil
			}
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

func (s *Store) readStreamPage(ctx context.Context, buffer []Recorded, head Head, left versions, online []time.Time) ([]Recorded, error) {
	months := between(online, head.FirstRecordedAt, head.LastRecordedAt)
	if len(months) == 0 {
		return nil, nil
	}
	sql, args := s.streamPageSQL(head.StreamID, months, left)
	return s.collect(ctx, buffer, sql, args...)
}

func (s *Store) streamPageSQL(id StreamID, months []time.Time, left versions) (sql string, args []any) {
	low, high, order := left.bounds()
	return s.overLeaves(months,
			`SELECT `+eventColumns+` FROM {{leaf}} WHERE stream_id = $1::text AND version >= $2::bigint AND version <= $3::bigint`,
			` ORDER BY `+order+` LIMIT $4::bigint`),
		[]any{string(id), int64(low), int64(high), s.config.PageSize}
}

// bounds are the versions from lowest to highest, and the order to read them in.
func (v versions) bounds() (low, high Version, order string) {
	if v.step < 0 {
		return v.last, v.next, "version DESC"
	}
	return v.next, v.last, "version"
}

// overLeaves is one statement over the leaves of some months: PostgreSQL merges their indexes, as all have the same.
func (s *Store) overLeaves(months []time.Time, perLeaf, tail string) string {
	parts := make([]string, len(months))
	for i, month := range months {
		parts[i] = strings.ReplaceAll(perLeaf, "{{leaf}}", string(s.sql.schema)+"."+leafOf(month))
	}
	return strings.Join(parts, "\nUNION ALL\n") + tail
}

// collect runs a query for event columns into a slice that it may reuse. Data stays nil; see decode.
func (s *Store) collect(ctx context.Context, events []Recorded, sql string, args ...any) ([]Recorded, error) {
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return scanEvents(rows, events)
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
