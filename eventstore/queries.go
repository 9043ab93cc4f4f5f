package eventstore

import (
	"context"
	_ "embed"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sight-platform/hindsight/internal/pg"
)

// The SQL files are named after the method that runs them.
var (
	//go:embed sql/append.sql
	sqlAppend string
	//go:embed sql/append_many.sql
	sqlAppendMany string
	//go:embed sql/append_group.sql
	sqlAppendGroup string
	//go:embed sql/first_answer.sql
	sqlFirstAnswer string
	//go:embed sql/head.sql
	sqlHead string
	//go:embed sql/last_occurred.sql
	sqlLastOccurred string
	//go:embed sql/of_project.sql
	sqlOfProject string
	//go:embed sql/months.sql
	sqlMonths string
	//go:embed sql/settled.sql
	sqlSettled string
	//go:embed sql/check_event.sql
	sqlCheckEvent string
	//go:embed sql/check_schema.sql
	sqlCheckSchema string
	//go:embed sql/health.sql
	sqlHealth string
	//go:embed sql/grants.sql
	sqlGrants string
	//go:embed sql/doctor_bounds.sql
	sqlDoctorBounds string
	//go:embed sql/doctor_facts.sql
	sqlDoctorFacts string
	//go:embed sql/doctor_fences.sql
	sqlDoctorFences string
	//go:embed sql/doctor_leaves.sql
	sqlDoctorLeaves string
	//go:embed sql/doctor_rights.sql
	sqlDoctorRights string
	//go:embed sql/doctor_events.sql
	sqlDoctorEvents string
)

// queries are the statements with their schema filled in.
type queries struct {
	schema                          pg.Schema
	imports                         importQueries
	append, appendMany, appendGroup string
	firstAnswer, ensureMonth        string
	lastOccurred                    string
	ofProject                       string
	head, months, settled, settle   string
	checkEvent, checkSchema, health string
}

func newQueries(schema pg.Schema) queries {
	return queries{
		schema: schema, imports: newImportQueries(schema),
		append: schema.SQL(sqlAppend), appendMany: schema.SQL(sqlAppendMany), appendGroup: schema.SQL(sqlAppendGroup),
		firstAnswer:  schema.SQL(sqlFirstAnswer),
		lastOccurred: schema.SQL(sqlLastOccurred), ofProject: schema.SQL(sqlOfProject),
		head: schema.SQL(sqlHead), months: schema.SQL(sqlMonths), settled: schema.SQL(sqlSettled),
		checkEvent: schema.SQL(sqlCheckEvent), checkSchema: schema.SQL(sqlCheckSchema), health: schema.SQL(sqlHealth),
		ensureMonth: schema.SQL(`SELECT {{schema}}.ensure_month($1::text::date)`),
		settle:      schema.SQL(`SELECT {{schema}}.settle()`),
	}
}

// noPool stands in for a pool that the caller did not give.
type noPool struct{}

func (noPool) Begin(context.Context) (pgx.Tx, error) { return nil, ErrNoPool }
func (noPool) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, ErrNoPool
}
func (noPool) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, ErrNoPool }
func (noPool) QueryRow(context.Context, string, ...any) pgx.Row        { return noRow{} }
func (noPool) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults  { return noResults{} }

type noRow struct{}

func (noRow) Scan(...any) error { return ErrNoPool }

// noResults overrides what the readers call; nothing else of a batch is used without a pool.
type noResults struct{ pgx.BatchResults }

func (noResults) QueryRow() pgx.Row { return noRow{} }
func (noResults) Close() error      { return ErrNoPool }
