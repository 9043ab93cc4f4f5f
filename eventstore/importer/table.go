package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sight-platform/hindsight/eventstore"
)

// TableConfig of [FromTable]. Name is required.
type TableConfig struct {
	// Name is what the import is known by: its bookmark is kept under it, and event ids are made from it where rows have no
	// uuid. A second table needs another name.
	Name string
	// Schema and Table name the table, or a view. They default to "public" and "memory_events".
	Schema, Table string

	// IDColumn is unique and not NULL; of type uuid, an integer or a text. Defaults to "id".
	IDColumn string
	// CreatedAtColumn is a timestamp, UTC if it has no time zone, and not NULL. Defaults to "created_at".
	CreatedAtColumn string
	// TypeColumn defaults to "event_type".
	TypeColumn string
	// DataColumn holds JSON: a json, jsonb or text. Defaults to "event_data".
	DataColumn string
	// StreamColumn holds what tells the streams apart: a session, a discussion. Defaults to "stream_id".
	StreamColumn string
	// Category is put before the value of StreamColumn, with a hyphen. Defaults to none: the value is a stream id as it is.
	Category string
	// ProjectColumn defaults to none.
	ProjectColumn string

	// Map may change what the columns gave, for each row: stream, type, schema version, body, occurred time, project,
	// metadata, recorded time; or set Skip. Columns that the table lacks leave their field empty for it. An event id that
	// it sets is not taken. An error is one of the row. The row is valid until Map returns. Defaults to none.
	Map func(row Row, event *eventstore.Imported) error
	// Skip is asked about a row that cannot be an event. A reason leaves the row out; "" ends the import with the error.
	// Defaults to "".
	Skip func(*RowError) (reason string)
	// TakeLate imports rows that the bookmark had passed, in the order of created_at, as recorded now (whatever Map says):
	// after what their streams have already. Defaults to false: they end the run with [ErrLateRows].
	TakeLate bool

	// BatchEvents is the number of rows a transaction. Defaults to 5,000.
	BatchEvents int
	// Progress is called after each commit. Defaults to none.
	Progress func(TableReport)
}

func (c TableConfig) withDefaults() TableConfig {
	for _, field := range []struct {
		value *string
		text  string
	}{
		{&c.Schema, "public"},
		{&c.Table, "memory_events"},
		{&c.IDColumn, "id"},
		{&c.CreatedAtColumn, "created_at"},
		{&c.TypeColumn, "event_type"},
		{&c.DataColumn, "event_data"},
		{&c.StreamColumn, "stream_id"},
	} {
		if *field.value == "" {
			*field.value = field.text
		}
	}
	return c
}

// TableReport is how far an import of a table has come: what it counts is committed.
type TableReport struct {
	eventstore.ImportReport
	Rows     int64    // of the table, when the run began
	Late     int64    // rows that the bookmark had passed; with TakeLate they are counted as Events too
	LateRows []string // ids of the first 100 of them
}

const maxLateRows = 100

// RowError says which row cannot be an event. It matches its Err, such as [eventstore.ErrInvalid].
type RowError struct {
	Row    string // its id
	Column string // empty where the whole row is meant
	Err    error
}

func (e *RowError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("row %s: %v", e.Row, e.Err)
	}
	return fmt.Sprintf("row %s: column %s: %v", e.Row, e.Column, e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// Errors to match with errors.Is.
var (
	// ErrTable: the table is not there, lacks a column, or has rows that cannot be told apart or ordered.
	ErrTable = errors.New("the table cannot be imported")
	// ErrLateRows: rows came into the table behind the bookmark and are not in the log; TableReport names them.
	ErrLateRows = errors.New("rows came in behind the bookmark")
)

// FromTable imports the rows of a table that the log does not have yet, in the order of (created_at, id), and then looks
// every row of the table up in the log. It may be run again at any time: after an interruption, or for what was added.
//
// Errors match [ErrTable], [ErrLateRows], or those of [eventstore.Store.Import]; about a row they are [*RowError]s. The
// report says how far it came.
func FromTable(ctx context.Context, store *eventstore.Store, db *pgxpool.Pool, config TableConfig) (TableReport, error) {
	config = config.withDefaults()
	run := &tableRun{store: store, config: config, table: &table{db: db, config: config}}
	if err := run.run(ctx); err != nil {
		return run.report, fmt.Errorf("importing table %s.%s: %w", config.Schema, config.Table, err)
	}
	return run.report, nil
}

type tableRun struct {
	store  *eventstore.Store
	config TableConfig
	table  *table
	report TableReport
}

func (r *tableRun) run(ctx context.Context) (err error) {
	if r.config.Name == "" {
		return &eventstore.InvalidError{Index: -1, Field: "TableConfig.Name", Reason: "is empty"}
	}
	if r.report.Rows, err = r.table.inspect(ctx); err != nil {
		return err
	}
	if err := r.importRows(ctx); err != nil {
		return err
	}
	return r.lookBack(ctx)
}

func (r *tableRun) importRows(ctx context.Context) error {
	source := func(bookmark string) iter.Seq2[eventstore.Imported, error] {
		after, err := parseKey(bookmark)
		if err != nil {
			return failed(err)
		}
		return r.events(r.table.rows(ctx, after))
	}
	config := r.importConfig()
	config.Progress = func(report eventstore.ImportReport) { r.progress(r.report.with(report)) }
	report, err := r.store.Import(ctx, source, config)
	r.report.ImportReport = report
	return rowFault(err)
}

func (r *tableRun) importConfig() eventstore.ImportConfig {
	config := eventstore.ImportConfig{Name: r.config.Name, BatchEvents: r.config.BatchEvents}
	if r.config.Skip != nil {
		config.Skip = func(event eventstore.Imported, err error) string {
			return r.config.Skip(&RowError{Row: rowOf(event.Bookmark), Err: err})
		}
	}
	return config
}

func (r *tableRun) progress(report TableReport) {
	if r.config.Progress != nil {
		r.config.Progress(report)
	}
}

// events turns rows into events.
func (r *tableRun) events(rows iter.Seq2[Row, error]) iter.Seq2[eventstore.Imported, error] {
	return func(yield func(eventstore.Imported, error) bool) {
		for row, err := range rows {
			if err != nil {
				yield(eventstore.Imported{}, err)
				return
			}
			event, err := r.event(row)
			var wrong *RowError
			if errors.As(err, &wrong) && r.config.Skip != nil {
				if event.Skip = r.config.Skip(wrong); event.Skip != "" {
					err = nil
				}
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// event maps a row. Its error is a RowError; id and bookmark are set in any case.
func (r *tableRun) event(row Row) (eventstore.Imported, error) {
	at := key{at: row.CreatedAt, id: row.ID}
	event := eventstore.Imported{RecordedAt: row.CreatedAt, Event: eventstore.Event{OccurredAt: row.CreatedAt}}
	fail := func(column string, err error) (eventstore.Imported, error) {
		return eventstore.Imported{Bookmark: at.String(), Event: eventstore.Event{ID: r.eventID(row.ID)}}, &RowError{Row: row.ID, Column: column, Err: err}
	}
	text := func(column string) string { value, _ := row.Text(column); return value }
	raw := eventstore.Raw{Type: text(r.config.TypeColumn), SchemaVersion: 1}
	if data, ok := row.Text(r.config.DataColumn); ok {
		raw.JSON = json.RawMessage(data)
	}
	event.Event.Data = raw
	event.Event.Project = text(r.config.ProjectColumn)
	if id := text(r.config.StreamColumn); id != "" && r.config.Category != "" {
		event.StreamID = eventstore.StreamID(r.config.Category + "-" + id)
	} else {
		event.StreamID = eventstore.StreamID(id)
	}
	if r.config.Map != nil {
		if err := r.config.Map(row, &event); err != nil {
			return fail("", err)
		}
	}
	event.Event.ID, event.Bookmark = r.eventID(row.ID), at.String()
	raw, isRaw := event.Event.Data.(eventstore.Raw)
	switch {
	case event.Skip != "":
		return event, nil
	case event.StreamID == "":
		return fail(r.config.StreamColumn, errors.New("is NULL or empty: the row has no stream"))
	case isRaw && raw.Type == "":
		return fail(r.config.TypeColumn, errors.New("is NULL or empty"))
	case isRaw && raw.JSON == nil:
		return fail(r.config.DataColumn, errors.New("is NULL"))
	}
	if err := checkBody(r.store.Codec(), &event.Event); err != nil {
		return fail(r.config.DataColumn, err)
	}
	return event, nil
}

// namespace is that of the version 5 UUIDs which this package makes.
//
//nolint:gochecknoglobals // a constant that Go cannot write
var namespace = uuid.MustParse("0f2cb4a6-3a7c-5d3e-9c55-6a1f4f6f2d10")

// eventID is the row's own UUID (also where it is kept as a text), or one that is made of the import's name and the id.
func (r *tableRun) eventID(row string) uuid.UUID {
	if id, err := uuid.Parse(row); err == nil && id != uuid.Nil && id.String() == row {
		return id
	}
	return uuid.NewSHA1(namespace, []byte(r.config.Name+"\x00"+row))
}

// checkBody decodes a body that is JSON already, as a reader of the log will, and learns the project from it.
func checkBody(codec *eventstore.Codec, event *eventstore.Event) error {
	raw, ok := event.Data.(eventstore.Raw)
	if !ok || codec == nil || event.Metadata.KeyID != "" { // an encoded body is not for us to read
		return nil
	}
	payload, err := codec.Decode(raw)
	if err != nil {
		return err
	}
	if scoped, ok := payload.(eventstore.ProjectScoped); ok && event.Project == "" {
		event.Project = scoped.StreamProject()
	}
	return nil
}

// rowFault names the row in an error about an event.
func rowFault(err error) error {
	var wrong *eventstore.ImportError
	var named *RowError
	if errors.As(err, &wrong) && !errors.As(err, &named) {
		return &RowError{Row: rowOf(wrong.Bookmark), Err: err}
	}
	return err
}

// key is a row's place in the order that the table is read in. Its text is the bookmark.
type key struct {
	at time.Time
	id string
}

func (k key) String() string { return k.at.Format(time.RFC3339Nano) + " " + k.id }

func parseKey(bookmark string) (*key, error) {
	if bookmark == "" {
		return nil, nil
	}
	text, id, ok := strings.Cut(bookmark, " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	if !ok || err != nil {
		return nil, fmt.Errorf("the bookmark %q is not one of a table: does another import have this name?", bookmark)
	}
	return &key{at: at, id: id}, nil
}

func rowOf(bookmark string) string {
	_, id, _ := strings.Cut(bookmark, " ")
	return id
}

func failed(err error) iter.Seq2[eventstore.Imported, error] {
	return func(yield func(eventstore.Imported, error) bool) { yield(eventstore.Imported{}, err) }
}
