package main

const (
	logSQL    = "eventstore/schema/0001_log.sql"
	appendSQL = "eventstore/schema/0002_append.sql"
	settleSQL = "eventstore/schema/0003_settle.sql"
	pkg       = "./eventstore"
)

// mutants lists each mechanism with its guarantee's number first (eventstore/doc.go).
func mutants() []mutant {
	return []mutant{
		{"1 compare-and-set on the head", appendSQL, []swap{
			{"WHERE s.stream_id = p_stream AND s.version = p_expected", "WHERE s.stream_id = p_stream"},
		}, pkg, "TestConformance"},
		{"1 versions given back without a month", appendSQL, []swap{
			{"               SET version = s.version - v_count,\n", "               SET version = s.version,\n"},
		}, pkg, "TestClosedMonth"},
		{"3 fence", appendSQL, []swap{
			{"PERFORM pg_advisory_xact_lock_shared({{schema}}.fence_class(), {{schema}}.fence_key(v_last));", ""},
		}, pkg, "TestNoReaderSkips"},
		{"3 fence before nextval", appendSQL, []swap{
			{"v_last := {{schema}}.last_position();", "SELECT array_agg(nextval('{{schema}}.events_position_seq')) INTO o_positions FROM generate_series(1, v_count);\n v_last := {{schema}}.last_position();"},
			{"    SELECT array_agg(nextval('{{schema}}.events_position_seq')) INTO o_positions FROM generate_series(1, v_count);\n    IF o_positions[1] <= v_last THEN", "    o_positions := coalesce(o_positions, (SELECT array_agg(nextval('{{schema}}.events_position_seq')) FROM generate_series(1, v_count)));\n    IF false THEN"},
		}, pkg, "TestNoReaderSkips"},
		{"3 fence once a transaction, not a session", appendSQL, []swap{
			{"PERFORM set_config(c_fence, v_last::text, true);", "PERFORM set_config(c_fence, v_last::text, false);"},
		}, pkg, "TestNoReaderSkips"},
		{"3 check of positions against the fence", appendSQL, []swap{
			{"IF o_positions[1] <= v_last THEN", "IF false THEN"},
		}, pkg, "TestAppendBelowItsFenceFails"},
		{"3 last position before the fences in flight", settleSQL, []swap{
			{"SELECT o_last + coalesce(min(d.behind) FILTER (WHERE d.behind <= 0), 0) INTO o_settled", "SELECT {{schema}}.last_position() + least(0, coalesce(min(d.behind) FILTER (WHERE d.behind <= 0), 0)) INTO o_settled"},
		}, pkg, "TestNoReaderSkips"},
		{"3 events read after settling, not with it", "eventstore/log_reader.go", []swap{
			{"	sql := \"\"\n	if s.inTx() {", "	perLeaf = s.sql.schema.SQL(strings.ReplaceAll(perLeaf, \"$2::bigint\", \"greatest($2::bigint, (SELECT o_settled FROM (SELECT pg_sleep(0.01) OFFSET 0) AS slow, {{schema}}.settled_position(-1)))\"))\n	sql := \"\"\n	if s.inTx() {"},
		}, pkg, "TestNoReaderSkips"},
		{"3 lower bound of a fresh sequence", appendSQL, []swap{
			{"'{{schema}}.events_position_seq'::regclass), 0)", "'{{schema}}.events_position_seq'::regclass), 1)"},
		}, pkg, "TestTheFirstEventIsNotSkipped"},
		{"3 month list as new as the position", "eventstore/log_reader.go", []swap{
			{"if s.inTx() || found.months == revision {", "if s.inTx() || revision > 0 {"},
		}, pkg, "TestFollowerFindsANewMonth"},
		{"5 greatest in recorded_at", appendSQL, []swap{
			{"last_recorded_at = greatest(s.last_recorded_at, coalesce(p_now, clock_timestamp()))\n         WHERE s.stream_id = p_stream AND s.version = p_expected", "last_recorded_at = coalesce(p_now, clock_timestamp())\n         WHERE s.stream_id = p_stream AND s.version = p_expected"},
		}, pkg, "TestRacingWritersAcrossMonthEnd"},
		{"5 clock skew bounded", appendSQL, []swap{
			{"IF o_recorded_at > coalesce(p_now, clock_timestamp()) + p_max_skew THEN", "IF false THEN"},
		}, pkg, "TestClockSetBack"},
		{"6 bytes kept", logSQL, []swap{
			{"    event_data     json NOT NULL,", "    event_data     jsonb NOT NULL,"},
		}, pkg, "TestWhatPassesTheCheckPostgreSQLCanRead"},
		{"6 append-only, row by row", logSQL, []swap{
			{"BEFORE UPDATE OR DELETE ON {{schema}}.events\n", "BEFORE DELETE ON {{schema}}.events\n"},
		}, pkg, "TestAppendOnlyInTheDatabase"},
		{"6 append-only, TRUNCATE of a leaf", logSQL, []swap{
			{"EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {{schema}}.%I'", "EXECUTE format('CREATE TRIGGER append_only_insert AFTER INSERT ON {{schema}}.%I'"},
		}, pkg, "TestAppendOnlyInTheDatabase"},
		{"7 dense versions", "eventstore/read.go", []swap{
			{"if i >= len(page) || page[i].Version != want {", "if len(page) == 0 {"},
		}, pkg, "TestAHoleInAStreamIsCorrupt"},
		{"8 escapes that PostgreSQL cannot read back", "eventstore/limits.go", []swap{
			{"	return checkEscapesAndDepth(data)\n", "	return \"\"\n"},
		}, pkg, "TestWhatPassesTheCheckPostgreSQLCanRead"},
		{"10 event id at the cursor", "eventstore/all.go", []swap{
			{"if id != place.eventID {", "if place.position > Position(last) {"},
		}, pkg, "TestRewoundLogIsNoticed"},
		{"3 windows of a filtered read", "eventstore/log_reader.go", []swap{
			{"			r.cursor = upTo\n", "			r.cursor = segment.upTo\n"},
		}, pkg, "TestFilteredReadsGoThroughWindows"},
		{"10 look back after a restart", "eventstore/follow.go", []swap{
			{"!found.started.Equal(reader.started)", "false"},
		}, pkg, "TestFollowerLooksBackAfterARestart"},
		{"10 cursor beyond the end", "eventstore/log_reader.go", []swap{
			{"if found.last >= 0 && r.cursor > found.last {", "if false {"},
		}, pkg, "TestRewoundLogIsNoticed"},
	}
}
