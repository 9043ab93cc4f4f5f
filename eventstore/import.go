package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/pg"
)

// ImportSource yields the events to import, in the order they are to have in the log, beginning after a bookmark (""
// for the start). An error that it yields ends the import.
type ImportSource func(bookmark string) iter.Seq2[Imported, error]

// Imported is an event of an [ImportSource].
type Imported struct {
	StreamID StreamID
	// Version is the event's place in its stream, where the source knows it: the next one, or one that the stream has
	// already, with the same event id. Defaults to the next.
	Version Version
	// Event is what Append takes: each limit of Append holds. A source that may be read again without a bookmark gives
	// Event.ID. Event.Project counts in the batch that begins the stream.
	Event Event
	// RecordedAt is kept. It decides the month, is never before that of the event before it in the stream, and never
	// ahead of the database's clock by more than Config.MaxClockSkew. Defaults to the database's clock.
	RecordedAt time.Time
	// Position is kept where ImportConfig.KeepPositions says so, and not looked at otherwise.
	Position Position
	// Bookmark is the place in the source just after this event, in the source's own words; all events have one, or none.
	Bookmark string
	// Skip is why this event is left out. It is then counted and kept in the table import_skips, by Event.ID.
	Skip string
}

// ImportConfig of [Store.Import]. The zero value works.
type ImportConfig struct {
	// Name is what the import's bookmark is kept under. Defaults to none: a rerun begins at the start of the source.
	Name string
	// KeepPositions keeps Imported.Position: positions must grow, be above all that the log has taken, and at most 1<<62.
	// Appends wait while a batch is written, readers at its end. A READ COMMITTED transaction that has read where the log
	// ends ([Store.Settled] or [Store.All] of [Store.WithTx]) and stays open makes the batch wait, and new readers for up to
	// 0.1 s a try; after some ten seconds the error is [ErrSerialization]: run the import again. It needs the log's owner.
	// Defaults to false: positions are assigned.
	KeepPositions bool
	// BatchEvents is the number of events a transaction, unless they come to 8 MB before. Readers see a batch at once,
	// and are held back for no longer than one takes. Defaults to 5,000; at most 50,000.
	BatchEvents int
	// Skip is asked about an event that breaks a limit of Append, or whose type is not known: a reason leaves the event out,
	// as Imported.Skip does; "" ends the import with the error. Defaults to "".
	Skip func(event Imported, err error) (reason string)
	// Progress is called after each commit, by the goroutine that called Import. Defaults to none.
	Progress func(ImportReport)
}

const (
	defaultImportEvents = 5000
	maxImportEvents     = 50_000
	importBytes         = 8 << 20
	maxImportNameBytes  = 200
	maxKeptPosition     = 1 << 62 // leaves as many for what is appended afterwards
)

func (c ImportConfig) withDefaults() ImportConfig {
	if c.BatchEvents == 0 {
		c.BatchEvents = defaultImportEvents
	}
	return c
}

func (c ImportConfig) validate() error {
	if c.BatchEvents < 1 || c.BatchEvents > maxImportEvents {
		return &InvalidError{Index: -1, Field: "ImportConfig.BatchEvents", Reason: fmt.Sprintf("is not within 1 and %d", maxImportEvents)}
	}
	reason := checkText(c.Name)
	if len(c.Name) > maxImportNameBytes {
		reason = fmt.Sprintf("has %d bytes, at most %d are allowed", len(c.Name), maxImportNameBytes)
	}
	if reason != "" {
		return &InvalidError{Index: -1, Field: "ImportConfig.Name", Reason: reason}
	}
	return nil
}

// ImportCounts is what became of a source's events.
type ImportCounts struct {
	Events   int64 // written
	Existing int64 // found in the log, with the same version and id
	Skipped  int64 // left out, see Imported.Skip
}

// ImportReport is how far an import has come: what it counts is committed.
type ImportReport struct {
	ImportCounts              // of this call
	Total        ImportCounts // of all calls under ImportConfig.Name
	Bookmark     string       // where a rerun goes on
	Position     Position     // of the last event written by this call
}

// Import writes the events of a source into the log, by COPY, in bounded transactions. The bookmark of the last event of
// a batch commits with the batch: an import that was ended by anything, SIGKILL included, goes on after it when it is run
// again under its name, and repeats and loses nothing. Without bookmarks a rerun is recognised by version and event id;
// events that give no version either are recognised within the month of their recorded time only ([ErrDuplicateID]).
//
// It keeps all guarantees of the log while others append and read: it locks head rows as Append does and takes its
// positions behind the fence. Months that are missing are made, however old.
//
// Import runs with the rights of the store's own role: the log's owner, or a role with INSERT and SELECT on events, and
// SELECT, INSERT and UPDATE on streams, imports and import_skips, USAGE of the sequence, SELECT on months and settings,
// and EXECUTE on make_month. Others get [ErrNotAllowed]. A role that may import can get around the append functions.
//
// An error about an event is an [*ImportError], which matches [ErrInvalid], [ErrUnknownType], [ErrCipher],
// [ErrVersionGap], [ErrVersionDiffers], [ErrRecordedAt], [ErrClock], [ErrPositions], [ErrDuplicateID] or
// [ErrMonthClosed]. Others match [ErrNotAllowed], [ErrImportOvertaken], [ErrSequence], [ErrMonthMissing], [ErrNoPool],
// [ErrSerialization], or [ErrOutcomeUnknown] where the connection ended in a commit. Nothing of the batch is then written
// (in the last case: all or nothing of it); batches before it stay, as the report says. Lost races are repeated, some ten
// times with pauses, those of making a month too; then [Retryable] knows the error.
func (s *Store) Import(ctx context.Context, source ImportSource, config ImportConfig) (ImportReport, error) {
	if s.config.InTx.After != nil {
		return ImportReport{}, &InvalidError{Index: -1, Field: "Config.InTx", Reason: "would not see what an import writes: import through a store without it"}
	}
	run := &importRun{store: s, config: config.withDefaults(), batch: newImportBatch(), spare: newImportBatch()}
	err := run.run(ctx, source)
	if err != nil {
		err = fmt.Errorf("importing: %w", err)
	}
	return run.report, err
}

// NotImported returns those ids that neither stand in the log nor were left out by an import, for checking an import
// against its source. recorded holds the time that each should be recorded at, and makes the search short; nil where that
// is not known. What should be in a month that is no longer online counts as imported.
func (s *Store) NotImported(ctx context.Context, ids []uuid.UUID, recorded []time.Time) ([]uuid.UUID, error) {
	first, last := earliest, latest
	if recorded != nil {
		if len(recorded) != len(ids) {
			return nil, &InvalidError{Index: -1, Field: "recorded", Reason: fmt.Sprintf("are %d times for %d ids", len(recorded), len(ids))}
		}
		if len(ids) > 0 {
			first, last = slices.MinFunc(recorded, time.Time.Compare), slices.MaxFunc(recorded, time.Time.Compare)
		}
	}
	missing, err := s.notImported(ctx, ids, recorded, first, last)
	if err == nil && len(missing) > 0 && recorded != nil { // recorded at another time?
		at := map[uuid.UUID]time.Time{}
		for i, id := range ids {
			at[id] = recorded[i]
		}
		recorded = nil
		for _, id := range missing {
			recorded = append(recorded, at[id])
		}
		missing, err = s.notImported(ctx, missing, recorded, earliest, latest)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for %d event ids: %w", len(ids), err)
	}
	return missing, nil
}

func (s *Store) notImported(ctx context.Context, ids []uuid.UUID, recorded []time.Time, first, last time.Time) ([]uuid.UUID, error) {
	rows, err := s.db.Query(ctx, s.sql.imports.missing, uuidTexts(ids), recorded, first, last)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Errors of imports, to match with errors.Is; errors.As gives the [ImportError].
var (
	// ErrVersionGap: an event's version is not the next one of its stream.
	ErrVersionGap = errors.New("the versions are not dense")
	// ErrVersionDiffers: another event has this version in the log.
	ErrVersionDiffers = errors.New("the log has another event at this version")
	// ErrRecordedAt: the event's recorded time is before that of the event before it in its stream.
	ErrRecordedAt = errors.New("recorded times fall within the stream")
	// ErrPositions: positions that are to be kept do not grow, or are not above all that the log has taken.
	ErrPositions = errors.New("the position cannot be kept")
	// ErrImportOvertaken: another import of this name wrote in the meantime. Run it again: it goes on after the other.
	ErrImportOvertaken = errors.New("another import of this name went on")
)

// ImportError says which event ended an import, and the facts. It matches its Err.
type ImportError struct {
	Index    int64 // of the event among those that the source yielded in this call, from 0
	StreamID StreamID
	Version  Version // the event's; 0 where it was not given and is not known yet
	EventID  uuid.UUID
	Bookmark string // the event's

	Want       Version   // the one that would be dense: for ErrVersionGap
	RecordedAt time.Time // the event's: for ErrRecordedAt, ErrClock and ErrMonthClosed
	Bound      time.Time // what RecordedAt must not be before (ErrRecordedAt) or after (ErrClock)
	Position   Position  // the event's: for ErrPositions
	Last       Position  // what Position must be above

	Err error
}

func (e *ImportError) Error() string {
	text := fmt.Sprintf("event %d", e.Index)
	if e.StreamID != "" {
		text += fmt.Sprintf(" (%s", e.StreamID)
		if e.Version > 0 {
			text += fmt.Sprintf(" version %d", e.Version)
		}
		text += ")"
	}
	var invalid *InvalidError
	switch {
	case errors.As(e.Err, &invalid):
		plain := *invalid
		plain.Index = -1 // it is said above
		return text + ": " + plain.Error()
	case errors.Is(e.Err, ErrVersionGap):
		return fmt.Sprintf("%s: %v: version %d is the next", text, e.Err, e.Want)
	case errors.Is(e.Err, ErrRecordedAt):
		return fmt.Sprintf("%s: %v: %s is before %s", text, e.Err, e.RecordedAt.Format(time.RFC3339Nano), e.Bound.Format(time.RFC3339Nano))
	case errors.Is(e.Err, ErrClock):
		return fmt.Sprintf("%s: recorded at %s, later than %s by the database's clock", text, e.RecordedAt.Format(time.RFC3339Nano), e.Bound.Format(time.RFC3339Nano))
	case errors.Is(e.Err, ErrPositions):
		return fmt.Sprintf("%s: %v: %d is not above %d", text, e.Err, e.Position, e.Last)
	case errors.Is(e.Err, ErrDuplicateID), errors.Is(e.Err, ErrVersionDiffers):
		return fmt.Sprintf("%s: event id %s: %v", text, e.EventID, e.Err)
	}
	return text + ": " + e.Err.Error()
}

func (e *ImportError) Unwrap() error { return e.Err }

// importRun is one call of Import. While it collects a batch, a goroutine writes the one before.
type importRun struct {
	store   *Store
	config  ImportConfig
	report  ImportReport
	batches int64 // transactions under the name so far: another number there says that we were overtaken

	count    int64 // events that the source has yielded
	marked   bool  // an event had a bookmark
	position Position
	batch    *importBatch      // being collected
	spare    *importBatch      // the other one, while nothing is written
	writing  chan importResult // holds the outcome of the other one; nil while nothing is written
}

// importResult is the outcome of a batch.
type importResult struct {
	batch  *importBatch
	counts ImportCounts
	err    error
}

func (r *importRun) run(ctx context.Context, source ImportSource) (err error) {
	if r.store.pool == nil {
		return ErrNoPool
	}
	if err := r.config.validate(); err != nil {
		return err
	}
	if r.config.Name != "" {
		if err := r.start(ctx); err != nil {
			return allowed(err)
		}
	}
	// Whatever ends the loop, the batch that is being written is waited for: the report says what is committed.
	defer func() {
		if failed := r.settle(); failed != nil {
			err = failed // it came first
		}
	}()
	for event, err := range source(r.report.Bookmark) {
		if err != nil {
			return fmt.Errorf("the source after %d events: %w", r.count, err)
		}
		if err := r.add(ctx, event); err != nil {
			return err
		}
		if r.batch.count >= r.config.BatchEvents || r.batch.bytes >= importBytes {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
	}
	return r.flush(ctx)
}

// flush hands the batch to a writer, once the batch before is committed.
func (r *importRun) flush(ctx context.Context) error {
	if err := r.settle(); err != nil || r.batch.count == 0 {
		return err
	}
	batch, done := r.batch, make(chan importResult, 1)
	r.batch, r.spare, r.writing = r.spare, nil, done
	go func() {
		counts, err := r.writeRepeatedly(ctx, batch)
		done <- importResult{batch: batch, counts: counts, err: err}
	}()
	return nil
}

// settle waits for the batch that is being written and reports it.
func (r *importRun) settle() error {
	if r.writing == nil {
		return nil
	}
	result := <-r.writing
	r.writing = nil
	if result.err != nil {
		return allowed(result.err)
	}
	r.batches++
	r.report.add(result.counts)
	r.report.Bookmark = result.batch.bookmark
	if last := result.batch.last; last > 0 {
		r.report.Position = last
	}
	result.batch.reset()
	r.spare = result.batch
	if r.config.Progress != nil {
		r.config.Progress(r.report)
	}
	return nil
}

// start reads the bookmark.
func (r *importRun) start(ctx context.Context) error {
	return pg.InTx(ctx, r.store.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, r.store.sql.imports.start, r.config.Name).
			Scan(&r.report.Bookmark, &r.report.Total.Events, &r.report.Total.Existing, &r.report.Total.Skipped, &r.batches)
	})
}

// add checks an event and puts it into the batch.
func (r *importRun) add(ctx context.Context, event Imported) error {
	index := r.count
	r.count++
	fail := func(err error) *ImportError {
		return &ImportError{
			Index: index, StreamID: event.StreamID, Version: event.Version, EventID: event.Event.ID, Bookmark: event.Bookmark, Err: err,
		}
	}
	if event.Bookmark == "" && r.marked {
		return fail(&InvalidError{Index: int(index), Field: "bookmark", Reason: "is empty, those before it were not"})
	}
	r.marked = event.Bookmark != ""
	if event.Skip == "" {
		if r.config.KeepPositions && event.Position <= r.position {
			wrong := fail(ErrPositions)
			wrong.Position, wrong.Last = event.Position, r.position
			return wrong
		}
		err := r.prepare(ctx, index, event)
		if err == nil {
			r.position = event.Position
			return nil
		}
		var invalid *InvalidError
		if errors.As(err, &invalid) {
			invalid.Index = int(index)
		}
		if r.config.Skip != nil && (errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnknownType)) {
			event.Skip = r.config.Skip(event, fail(err))
		}
		if event.Skip == "" {
			return fail(err)
		}
	}
	r.batch.skip(event)
	return nil
}

// prepare refuses what Append would refuse, and what the sequence by itself shows to be wrong.
func (r *importRun) prepare(ctx context.Context, index int64, event Imported) error {
	if err := event.StreamID.Validate(); err != nil {
		return err
	}
	if event.Version < 0 {
		return &InvalidError{Field: "version", Reason: fmt.Sprintf("is %d, they start at 1", event.Version)}
	}
	if r.config.KeepPositions && event.Position > maxKeptPosition {
		return &InvalidError{Field: "position", Reason: fmt.Sprintf("is %d, at most %d is allowed", event.Position, maxKeptPosition)}
	}
	if !event.RecordedAt.IsZero() {
		event.RecordedAt = cutTime(event.RecordedAt)
		if reason := checkOccurredAt(event.RecordedAt); reason != "" {
			return &InvalidError{Field: "recorded_at", Reason: reason}
		}
	}
	columns := &r.batch.columns
	columns.stream, columns.project = event.StreamID, nil
	before := columns.bytes
	if err := r.store.prepareEvent(ctx, columns, event.Event); err != nil {
		return err
	}
	r.batch.add(index, event, columns.bytes-before)
	return nil
}
