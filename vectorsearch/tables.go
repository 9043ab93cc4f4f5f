package vectorsearch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/internal/pg"
	"github.com/sight-platform/hindsight/projection"
)

// name of one of the projection's tables; physical is that of this version.
func (x *Index) name(table string) string { return x.config.Name + "_" + table }

func (x *Index) physical(table string) string {
	return x.quote(fmt.Sprintf("%s_v%d", x.name(table), x.config.Version))
}

func (x *Index) quote(table string) string {
	return pgx.Identifier{x.store.Schema(), table}.Sanitize()
}

// sql fills names into a statement.
func (x *Index) sql(statement string) string { return x.names.Replace(statement) }

func (x *Index) replacer() *strings.Replacer {
	return strings.NewReplacer(
		"{{schema}}", pgx.Identifier{x.store.Schema()}.Sanitize(), "{{schema_literal}}", literal(x.store.Schema()),
		"{{passages}}", x.physical("passages"), "{{vectors}}", x.physical("vectors"), "{{months}}", x.physical("months"),
		"{{costs}}", x.physical("costs"), "{{source}}", x.physical("source"), "{{ensure_month}}", x.physical("ensure_month"),
		"{{passages_name}}", literal(fmt.Sprintf("%s_v%d", x.name("passages"), x.config.Version)),
		"{{vectors_name}}", literal(fmt.Sprintf("%s_v%d", x.name("vectors"), x.config.Version)),
		"{{dimensions}}", fmt.Sprint(x.model.Dimensions), "{{config}}", x.configSQL(),
		"{{model}}", literal(x.model.Name), "{{revision}}", literal(x.model.Revision), "{{recipe}}", fmt.Sprint(x.config.Recipe.Version),
		"{{language}}", literal(baseLanguage(x.config.Language)),
	)
}

// shared are the columns that passages and vectors have in common: a filter means the same in both.
const shared = `
    position    bigint NOT NULL,
    chunk       integer NOT NULL,
    recorded_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    stream_id   text COLLATE "C" NOT NULL,
    event_type  text COLLATE "C" NOT NULL,
    project_id  text COLLATE "C" NOT NULL,
    persona_id  text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    language    text COLLATE "C" NOT NULL,
    metadata    jsonb NOT NULL,`

func sharedColumns() []string {
	return []string{"position", "chunk", "recorded_at", "occurred_at", "stream_id", "event_type", "project_id", "persona_id", "user_id", "language", "metadata"}
}

func passageColumns() []string { return append(sharedColumns(), "version", "word_count", "body") }

func vectorColumns() []string { return append(sharedColumns(), "hash", "embedding") }

func (x *Index) tables() []projection.Table {
	table := func(name, sql string) projection.Table {
		return projection.Table{Name: x.name(name), SQL: strings.ReplaceAll(x.sql(sql), "{{shared}}", shared)}
	}
	return []projection.Table{
		table("months", ownSQL+monthsSQL), table("passages", passagesSQL), table("vectors", vectorsSQL+ensureMonthSQL),
	}
}

// ownSQL makes what Reset leaves alone, as it is not in the list of tables: which model the vectors are of, and what they have cost.
const ownSQL = `
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
        RAISE EXCEPTION 'pgvector is not in this database: call Index.Migrate first' USING ERRCODE = 'undefined_object';
    END IF;
END $$;
CREATE TABLE {{source}} (
    model text NOT NULL, revision text NOT NULL, dimensions integer NOT NULL, recipe integer NOT NULL, language text NOT NULL
);
INSERT INTO {{source}} VALUES ({{model}}, {{revision}}, {{dimensions}}, {{recipe}}, {{language}});
COMMENT ON TABLE {{source}} IS 'The one model and recipe that these vectors are of.';
CREATE TABLE {{costs}} (
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    texts          integer NOT NULL,
    tokens         bigint NOT NULL,
    cost           double precision NOT NULL,
    failed         boolean NOT NULL,
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL
);
COMMENT ON TABLE {{costs}} IS 'A row a call of the embedder that was paid for, written at once: what indexing has cost. Reset leaves it.';
COMMENT ON COLUMN {{costs}}.cost IS 'US dollars.';
COMMENT ON COLUMN {{costs}}.failed IS 'The answer could not be used.';
`

const monthsSQL = `
CREATE TABLE {{table}} (
    month          date PRIMARY KEY,
    first_position bigint,
    last_position  bigint,
    rows           bigint NOT NULL DEFAULT 0,
    words          bigint NOT NULL DEFAULT 0,
    languages      text[] NOT NULL DEFAULT '{}',
    hnsw           boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE {{table}} IS 'A row a partition of passages and vectors, by month of recorded_at in UTC; hnsw: its vectors have an HNSW index.';`

const passagesSQL = `
CREATE TABLE {{table}} ({{shared}}
    version     bigint NOT NULL,
    word_count  integer NOT NULL,
    body        text NOT NULL,
    words       tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector({{config}}, body)) STORED,
    PRIMARY KEY (position, chunk, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX ON {{table}} USING gin (words) WITH (fastupdate = off);
CREATE INDEX ON {{table}} (stream_id, version);
CREATE INDEX ON {{table}} (project_id);
CREATE INDEX ON {{table}} (persona_id);
COMMENT ON TABLE {{table}} IS 'A row a piece of text that an event says; it outlives the event''s month in the log.';
COMMENT ON COLUMN {{table}}.body IS 'The text.';
COMMENT ON COLUMN {{table}}.words IS 'Its words for full-text search, by the language.';
COMMENT ON COLUMN {{table}}.word_count IS 'How many words it has, as they stand.';`

const vectorsSQL = `
CREATE TABLE {{table}} ({{shared}}
    hash        uuid NOT NULL,
    PRIMARY KEY (position, chunk, recorded_at)
) PARTITION BY RANGE (recorded_at);
DO $$
DECLARE
    v_schema text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector');
BEGIN
    EXECUTE format('ALTER TABLE {{table}} ADD COLUMN embedding %I.halfvec({{dimensions}}) NOT NULL', v_schema);
END $$;
ALTER TABLE {{table}} ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX ON {{table}} (hash);
CREATE INDEX ON {{table}} (stream_id);
CREATE INDEX ON {{table}} (project_id);
CREATE INDEX ON {{table}} (persona_id);
CREATE INDEX ON {{table}} (user_id);
CREATE INDEX ON {{table}} (occurred_at);
COMMENT ON TABLE {{table}} IS 'A row a passage: its vector, beside what searches filter by.';
COMMENT ON COLUMN {{table}}.hash IS 'Of the text: a text that is there already is not embedded again.';
COMMENT ON COLUMN {{table}}.embedding IS 'The vector, in half precision.';
`

// ensureMonthSQL makes the partitions of a month with the rights of the tables' owner. It attaches finished tables, for which no
// reader or writer of other months waits.
const ensureMonthSQL = `
CREATE OR REPLACE FUNCTION {{ensure_month}}(p_month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_month date := date_trunc('month', p_month)::date;
    v_to date := (v_month + interval '1 month')::date;
    v_table record;
    v_leaf text;
    v_role regrole;
BEGIN
    PERFORM set_config('lock_timeout', '10s', true);
    PERFORM pg_advisory_xact_lock('{{vectors}}'::regclass::oid::bigint);
    IF EXISTS (SELECT FROM {{months}} WHERE month = v_month) THEN
        RETURN;
    END IF;
    IF v_month < date '2000-01-01' OR v_month > (now() AT TIME ZONE 'UTC')::date + 62 THEN
        RAISE EXCEPTION 'month % is no month of recorded events', v_month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR v_table IN SELECT * FROM (VALUES ('{{passages}}'::regclass, {{passages_name}}, ''), ('{{vectors}}'::regclass, {{vectors_name}}, ' WITH (toast_tuple_target = 8160)')) AS t (parent, name, options) LOOP
        v_leaf := format('%I.%I', {{schema_literal}}, v_table.name || to_char(v_month, '_YYYY_MM'));
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(v_leaf)); -- Reset empties {{months}}
        EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)%s', v_leaf, v_table.parent, v_table.options);
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', v_table.parent, v_leaf,
                       v_month::text || ' 00:00:00+00', v_to::text || ' 00:00:00+00');
        -- Searches read the partitions themselves.
        FOR v_role IN SELECT DISTINCT a.grantee::regrole FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = v_table.parent AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner) LOOP
            EXECUTE format('GRANT SELECT ON %s TO %s', v_leaf, v_role);
        END LOOP;
    END LOOP;
    INSERT INTO {{months}} (month) VALUES (v_month);
END $$;
REVOKE ALL ON FUNCTION {{ensure_month}}(date) FROM PUBLIC;
`

// leafName is a month's partition of a table.
func (x *Index) leafName(table string, month time.Time) string {
	return fmt.Sprintf("%s_v%d_%s", x.name(table), x.config.Version, month.Format("2006_01"))
}

// ensureMonth makes the partitions for a time, where they are missing.
func (x *Index) ensureMonth(ctx context.Context, at time.Time) error {
	month := monthOf(at)
	x.mu.Lock()
	there := x.months[month]
	x.mu.Unlock()
	if there {
		return nil
	}
	err := pg.InTx(ctx, x.store.Pool(), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, x.sql(`SELECT {{ensure_month}}($1::text::date)`), month.Format(time.DateOnly))
		return err
	})
	if err != nil {
		err = fmt.Errorf("making the partitions of %s: %w", month.Format("2006-01"), err)
		if pg.Code(err) == pg.InsufficientPrivilege { // an operator's to mend: no event's fault
			err = projection.Transient(fmt.Errorf("%w: %w", eventstore.ErrNotAllowed, err))
		}
		return err
	}
	x.mu.Lock()
	x.months[month] = true
	x.mu.Unlock()
	return nil
}

// forget makes the next Prepare look again at what is there.
func (x *Index) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.months = map[time.Time]bool{}
}

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// rows are those of a batch.
func (x *Index) rows(pieces []piece, vectors map[textHash]pgvector.HalfVector, projects map[eventstore.StreamID]string) *prepared {
	out := &prepared{months: map[time.Time]*monthSum{}}
	for _, p := range pieces {
		e := p.event
		project := p.Project
		if project == "" {
			project = projects[e.StreamID]
		}
		language := baseLanguage(p.Language)
		if language == "" {
			language = baseLanguage(x.config.Language)
		}
		count := wordCount(p.Text)
		common := []any{
			int64(e.Position), p.chunk, e.RecordedAt, e.OccurredAt, string(e.StreamID), e.Type, project, p.Persona, p.User, language, string(e.MetadataJSON),
		}
		out.passages = append(out.passages, append(slices.Clone(common), int64(e.Version), count, p.Text))
		out.vectors = append(out.vectors, append(common, p.hash, vectors[p.hash]))
		month := monthOf(e.RecordedAt)
		sum := out.months[month]
		if sum == nil {
			sum = &monthSum{first: e.Position, last: e.Position}
			out.months[month] = sum
		}
		sum.first, sum.last = min(sum.first, e.Position), max(sum.last, e.Position)
		sum.rows, sum.words = sum.rows+1, sum.words+int64(count)
		if !slices.Contains(sum.languages, language) {
			sum.languages = append(sum.languages, language)
		}
	}
	return out
}

// addToMonths brings the sums of months up to date, in their order: shards do so at the same time.
func (x *Index) addToMonths(ctx context.Context, tx pgx.Tx, months map[time.Time]*monthSum) error {
	keys := slices.SortedFunc(maps.Keys(months), time.Time.Compare)
	for _, month := range keys {
		sum := months[month]
		tag, err := tx.Exec(ctx, x.sql(`UPDATE {{months}} SET rows = rows + $2, words = words + $3, first_position = least(first_position, $4), last_position = greatest(last_position, $5),
       languages = ARRAY(SELECT DISTINCT unnest(languages || $6::text[]) ORDER BY 1)
 WHERE month = $1::text::date`), month.Format(time.DateOnly), sum.rows, sum.words, int64(sum.first), int64(sum.last), sum.languages)
		if err != nil {
			return fmt.Errorf("the sums of %s: %w", month.Format("2006-01"), err)
		}
		if tag.RowsAffected() != 1 { // Reset or Maintain took it away since Prepare looked
			x.forget()
			return projection.Transient(fmt.Errorf("the month %s of %s is gone", month.Format("2006-01"), x.config.Name))
		}
	}
	return nil
}
