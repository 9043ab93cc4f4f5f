package eventstore

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// slowAppend is how long an appending transaction may be open before it is worth a word: any busy log has shorter ones.
const slowAppend = time.Second

func (e *examination) appenders() {
	if e.facts.Standby {
		e.add(Finding{
			Kind: FindingUnseen, Severity: slog.LevelInfo,
			Text: "This is a standby: transactions that hold readers back can be seen on the primary only.",
		})
	}
	first := true
	for _, fence := range e.fences {
		age := max(0, time.Duration(fence.Age)*time.Microsecond)
		if fence.Age >= 0 && age < slowAppend {
			continue
		}
		f := Finding{
			Kind: FindingSlowAppender, Severity: slog.LevelWarn,
			PID: fence.PID, Prepared: fence.Prepared, Role: fence.Role, Application: fence.Application, Client: fence.Client,
			State: fence.State, Query: fence.Query, Age: age, Position: Position(fence.Position), Held: e.facts.Last - fence.Position,
			Remedy: fmt.Sprintf("SELECT pg_terminate_backend(%d)", fence.PID),
		}
		if fence.Age < 0 { // it may be a quick one
			f.Severity = slog.LevelInfo
		}
		if f.Prepared != "" {
			f.Remedy = "ROLLBACK PREPARED " + literal(f.Prepared)
		}
		f.Text = f.appender()
		if first {
			f.Text += fmt.Sprintf(" Readers of the log stand at position %d, %d behind the last, until it ends; writers go on.", f.Position, f.Held)
		} else {
			f.Text += fmt.Sprintf(" If the one before ends, readers stand at position %d, %d behind the last.", f.Position, f.Held)
		}
		e.add(f)
		first = false
	}
}

// appender says who a slow appender is and what it does, or what of it cannot be seen.
func (f Finding) appender() string {
	if f.Prepared != "" {
		return fmt.Sprintf("Prepared transaction %q of role %s has appended, and waits for %s to be committed or rolled back by its coordinator; restarts do not end it.",
			f.Prepared, f.Role, shortly(f.Age))
	}
	text := fmt.Sprintf("Session %d (application %q, role %s", f.PID, f.Application, f.Role)
	if f.Client != "" {
		text += ", " + f.Client
	}
	if f.State == "" {
		return text + ") has appended in a transaction that it has not ended. Its query and age cannot be seen: this role lacks pg_read_all_stats."
	}
	return text + fmt.Sprintf(") has appended in a transaction that is open for %s; it is %s. Its last query: %s.", shortly(f.Age), f.State, excerpt(f.Query))
}

// excerpt is the begin of a query in one line.
func excerpt(query string) string {
	runes := []rune(strings.Join(strings.Fields(query), " "))
	if len(runes) > 120 {
		return string(runes[:120]) + "…"
	}
	return string(runes)
}

// shortly rounds a time span to what an operator needs of it.
func shortly(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// monthsAhead is how far ahead of the clock ensure_month goes.
const monthsAhead = 13

func (e *examination) months() {
	now := time.UnixMicro(e.facts.Now).UTC()
	states := map[time.Time]string{}
	var far []string
	for _, leaf := range e.leaves {
		if leaf.Month == nil {
			continue
		}
		month := time.Unix(*leaf.Month, 0).UTC()
		states[month] = leaf.State
		if month.After(now.AddDate(0, monthsAhead, 1)) {
			far = append(far, month.Format("2006-01"))
		}
	}
	current := monthOf(now)
	for _, month := range []time.Time{current, current.AddDate(0, 1, 0)} {
		switch state := states[month]; {
		case state == "":
			e.monthMissing(month, month.Equal(current))
		case state != "open" && month.Equal(current):
			e.add(Finding{
				Kind: FindingMonthClosed, Severity: slog.LevelError, Month: month,
				Text: fmt.Sprintf("The current month, %s, is %s: appends fail with ErrMonthClosed until the next month begins.", month.Format("2006-01"), state),
			})
		}
	}
	if len(far) > 0 {
		e.add(Finding{
			Kind: FindingClockJumped, Severity: slog.LevelWarn,
			Text: fmt.Sprintf("Months far ahead of the database's clock are registered (%s): a clock was wrong when they were made. Look for events in them.", someOf(far)),
		})
	}
	e.mismatches()
}

func (e *examination) monthMissing(month time.Time, current bool) {
	f := Finding{
		Kind: FindingMonthMissing, Severity: slog.LevelInfo, Month: month,
		Remedy: fmt.Sprintf("SELECT %s.ensure_month('%s')", e.sql.schema, month.Format(time.DateOnly)),
	}
	f.Text = fmt.Sprintf("Month %s has no partition yet. The first append into it makes it, at the cost of some milliseconds.", month.Format("2006-01"))
	if !e.facts.MakesMonths {
		f.Severity = slog.LevelWarn
		f.Text = fmt.Sprintf("Month %s has no partition, and role %s may not make it. Appends into it fail with ErrMonthMissing, unless their role may.",
			month.Format("2006-01"), e.facts.Role)
	}
	if current && !e.facts.MakesMonths {
		f.Severity = slog.LevelError
	}
	e.add(f)
}

// mismatches compares the registry, which readers and appends go by, with the partitions.
func (e *examination) mismatches() {
	for _, leaf := range e.leaves {
		gone := leaf.State == "detached" || leaf.State == "dropped"
		f := Finding{Kind: FindingMonthMismatch, Severity: slog.LevelError, Objects: []string{e.table(leaf.Name)}}
		if leaf.Month != nil {
			f.Month = time.Unix(*leaf.Month, 0).UTC()
		}
		switch {
		case leaf.Parent:
			continue
		case leaf.Month == nil:
			f.Text = fmt.Sprintf("Partition %s has no row in the month registry: readers pass its events over, and appends into it fail. "+
				"Register it, or detach it if it is no month of this log.", leaf.Name)
		case leaf.Attached && leaf.State == "detached":
			f.Severity = slog.LevelWarn // for a moment, it is normal
			f.Text = fmt.Sprintf("Month %s leaves the log, and partition %s is still attached: its readers go to the archive. The next run of package partition ends it.",
				f.Month.Format("2006-01"), leaf.Name)
		case leaf.Attached && gone:
			f.Text = fmt.Sprintf("Month %s is %s by the registry, but partition %s is attached: its readers go to the archive.",
				f.Month.Format("2006-01"), leaf.State, leaf.Name)
		case !leaf.Attached && !gone:
			f.Text = fmt.Sprintf("Month %s is %s by the registry, but no partition %s is attached: reading it fails, and so do appends into it. "+
				"Attach it, or restore it from its archive.", f.Month.Format("2006-01"), leaf.State, leaf.Name)
		case leaf.Attached && !leaf.Readable:
			f.Role = e.facts.Role
			f.Remedy = fmt.Sprintf("GRANT SELECT ON %s TO %s", e.table(leaf.Name), pgx.Identifier{e.facts.Role}.Sanitize())
			f.Text = fmt.Sprintf("Role %s may not read partition %s: its reads of that month fail. Grant the role its access again (Store.Grant).",
				e.facts.Role, leaf.Name)
		default:
			continue
		}
		e.add(f)
	}
}

// table is a table's name with its schema, for SQL.
func (e *examination) table(name string) string {
	return string(e.sql.schema) + "." + pgx.Identifier{name}.Sanitize()
}

// guards names the tables where the database would let events be changed, or be written twice.
func (e *examination) guards() {
	var rows, truncates, keys lapse
	for _, leaf := range e.leaves {
		if !leaf.Attached {
			continue
		}
		table := e.table(leaf.Name)
		if !leaf.RefusesRows {
			rows.add(leaf.Name, table, e.trigger(table, leaf.RowTriggerOff,
				"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %s.refuse_change()"))
		}
		if !leaf.RefusesTruncate {
			truncates.add(leaf.Name, table, e.trigger(table, leaf.TruncateOff,
				"CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s.refuse_change()"))
		}
		for _, columns := range leaf.KeysMissing {
			suffix := strings.TrimPrefix(strings.ReplaceAll(columns, ", ", "_"), "stream_id_") // as ensure_month names it
			keys.add(fmt.Sprintf("%s (%s)", leaf.Name, columns), table, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE (%s)",
				table, pgx.Identifier{leaf.Name + "_" + suffix + "_key"}.Sanitize(), columns))
		}
	}
	e.unguarded(rows, "UPDATE and DELETE of events are not refused on %s: the trigger append_only is missing or disabled there.")
	e.unguarded(truncates, "TRUNCATE is not refused on %s: the trigger append_only_truncate is missing or disabled there.")
	e.unguarded(keys, "A unique constraint is missing on %s: an event could be written twice there, and reads miss its index.")
}

// lapse is where one guard is missing.
type lapse struct{ names, tables, remedies []string }

func (l *lapse) add(name, table, remedy string) {
	l.names, l.tables, l.remedies = append(l.names, name), append(l.tables, table), append(l.remedies, remedy)
}

// trigger enables a trigger that is there, or creates it.
func (e *examination) trigger(table, disabled, create string) string {
	if disabled != "" {
		return fmt.Sprintf("ALTER TABLE %s ENABLE TRIGGER %s", table, pgx.Identifier{disabled}.Sanitize())
	}
	return fmt.Sprintf(create, table, e.sql.schema)
}

func (e *examination) unguarded(l lapse, text string) {
	if len(l.names) == 0 {
		return
	}
	e.add(Finding{
		Kind: FindingUnguarded, Severity: slog.LevelError, Objects: l.tables, Remedy: strings.Join(l.remedies, ";\n"),
		Text: fmt.Sprintf(text, someOf(l.names)),
	})
}

// someOf lists the first of many names.
func someOf(names []string) string {
	const enough = 3
	if len(names) <= enough+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:enough], ", "), len(names)-enough)
}

// connectedRole warns where this program itself could get around the fence.
func (e *examination) connectedRole() {
	why := ""
	switch {
	case e.facts.Superuser:
		why = "is a superuser"
	case e.facts.Role == e.facts.Owner:
		why = "owns the log"
	case e.facts.MayBeOwner:
		why = fmt.Sprintf("is a member of the log's owner %s", e.facts.Owner)
	case e.facts.WritesAll:
		why = "is a member of pg_write_all_data"
	default:
		return
	}
	e.add(Finding{
		Kind: FindingTooManyRights, Severity: slog.LevelWarn, Role: e.facts.Role,
		Text: fmt.Sprintf("This program connects as role %s, which %s: a slip of its SQL can write past the append functions, and readers then skip events. "+
			"Let services connect as a role of their own (Store.Grant), and keep this one for Migrate and maintenance.", e.facts.Role, why),
	})
}

// grantedRoles names each role that was given the right to write past the append functions, with the REVOKE to run.
func (e *examination) grantedRoles() {
	for _, right := range e.rights {
		privileges := strings.Join(right.Privileges, ", ")
		f := Finding{Kind: FindingTooManyRights, Severity: slog.LevelWarn, Role: right.Role, Objects: right.Objects}
		who := "Role " + right.Role
		if right.Role == "PUBLIC" {
			who = "Every role (PUBLIC)"
		}
		switch right.Kind {
		case "TABLE":
			f.Text = fmt.Sprintf("%s has %s on %s: events written or heads moved past the append functions can make readers skip, and streams break.",
				who, privileges, someOf(right.Objects))
			f.Remedy = fmt.Sprintf("REVOKE %s ON %s FROM %s", privileges, strings.Join(right.Objects, ", "), right.Role)
		case "SEQUENCE":
			f.Text = fmt.Sprintf("%s has %s on %s: a position taken or set outside of an append can make readers skip.",
				who, privileges, strings.Join(right.Objects, ", "))
			f.Remedy = fmt.Sprintf("REVOKE %s ON SEQUENCE %s FROM %s", privileges, strings.Join(right.Objects, ", "), right.Role)
		default:
			in := ""
			if f.Objects = nil; right.Objects[0] != "" {
				in = " IN SCHEMA " + right.Objects[0]
			}
			f.Text = fmt.Sprintf("%s is given %s on each table that role %s makes, by its default privileges: on each new month too.", who, privileges, right.Owner)
			f.Remedy = fmt.Sprintf("ALTER DEFAULT PRIVILEGES FOR ROLE %s%s REVOKE %s ON TABLES FROM %s", right.Owner, in, privileges, right.Role)
		}
		e.add(f)
	}
}

func (e *examination) settings() {
	if !e.facts.Fsync || !e.facts.FullPageWrites {
		e.add(Finding{
			Kind: FindingNotDurable, Severity: slog.LevelError,
			Text: fmt.Sprintf("The server runs with fsync %s and full_page_writes %s: a crash of its machine can lose or damage what was acknowledged. Both must be on.",
				onOff(e.facts.Fsync), onOff(e.facts.FullPageWrites)),
		})
	}
	if e.facts.SynchronousCommit == "off" {
		e.add(Finding{
			Kind: FindingNotDurable, Severity: slog.LevelError, Role: e.facts.Role,
			Text: fmt.Sprintf("Sessions of role %s have synchronous_commit off: a crash of the server loses the appends of the last moments, though they were acknowledged. "+
				"Set it on for the role, the database or the server that turned it off.", e.facts.Role),
		})
	}
	if !strings.HasPrefix(e.facts.DateStyle, "ISO") {
		e.add(Finding{
			Kind: FindingBadDateStyle, Severity: slog.LevelError, Role: e.facts.Role,
			Text: fmt.Sprintf("Sessions of role %s have DateStyle %q, of which the driver cannot read times sent as text. Set it to ISO.", e.facts.Role, e.facts.DateStyle),
		})
	}
	if e.facts.TestClock {
		e.add(Finding{
			Kind: FindingTestClock, Severity: slog.LevelError, Objects: []string{e.table("settings")},
			Remedy: fmt.Sprintf("DELETE FROM %s WHERE name = 'test_clock'", e.table("settings")),
			Text:   "The setting test_clock is on: writers may bring their own recorded_at, and months far from the clock are made. Only a test's log may have it.",
		})
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// clockOfThisProgram compares it with the database's, which was read between asked and answered.
func (e *examination) clockOfThisProgram() {
	database := time.UnixMicro(e.facts.Now)
	off, word := e.asked.Sub(database), "ahead of"
	if behind := database.Sub(e.answered); behind > 0 {
		off, word = -behind, "behind"
	}
	if off.Abs() <= e.config.MaxClockSkew {
		return
	}
	e.add(Finding{
		Kind: FindingClockJumped, Severity: slog.LevelWarn, Clock: off,
		Text: fmt.Sprintf("This program's clock is %s %s the database's. The log goes by the database's; occurred_at and the times in event ids, which the program sets, are off. "+
			"Synchronise both (NTP).", shortly(off.Abs()), word),
	})
}

func (e *examination) sequence(events doctorEvents) {
	sequence := e.table("events_position_seq")
	if e.facts.SequenceCache != 1 {
		e.add(Finding{
			Kind: FindingSequenceUnsafe, Severity: slog.LevelError, Objects: []string{sequence},
			Remedy: fmt.Sprintf("ALTER SEQUENCE %s CACHE 1", sequence),
			Text: fmt.Sprintf("The sequence of positions has CACHE %d: sessions hold positions back that readers have passed, and their appends fail with ErrSequence. Set it to 1, and reconnect all programs.",
				e.facts.SequenceCache),
		})
	}
	if events.Last < events.Highest {
		e.add(Finding{
			Kind: FindingSequenceUnsafe, Severity: slog.LevelError, Position: Position(events.Highest), Objects: []string{sequence},
			Remedy: fmt.Sprintf("SELECT setval('%s', %d)", sequence, events.Highest),
			Text: fmt.Sprintf("The sequence of positions stands at %d, behind the last event at position %d: readers end at the former, and appends collide. Stop the writers, and set it forward.",
				events.Last, events.Highest),
		})
	}
}

func (e *examination) clockOfTheDatabase(events doctorEvents) {
	if ahead := time.Duration(events.LatestAt-e.facts.Now) * time.Microsecond; events.Latest > 0 && ahead > e.config.MaxClockSkew {
		e.add(Finding{
			Kind: FindingClockJumped, Severity: slog.LevelWarn, Position: Position(events.Latest), Clock: ahead,
			Text: fmt.Sprintf("The event at position %d was recorded %s ahead of the database's clock, which was set back since. "+
				"Appends to streams that are ahead fail with ErrClock until the clock has caught up, at %s.",
				events.Latest, shortly(ahead), time.UnixMicro(events.LatestAt).UTC().Format(time.RFC3339)),
		})
	}
	if fell := time.Duration(events.BackFrom-events.BackTo) * time.Microsecond; fell > e.config.MaxClockSkew {
		e.add(Finding{ // of the past, and not always a clock's fault
			Kind: FindingClockJumped, Severity: slog.LevelInfo, Position: Position(events.BackAt), Clock: -fell,
			Text: fmt.Sprintf("From position %d to %d the recorded time falls by %s, to %s. The database's clock was set back then, or events were imported with times "+
				"of their own, or that append waited so long for another one on its stream, which rolled back. The order of positions holds; "+
				"what is chosen by recorded time around there is not in that order.",
				events.BackAfter, events.BackAt, shortly(fell), time.UnixMicro(events.BackTo).UTC().Format(time.RFC3339)),
		})
	}
}

// staleSettlement is how old an event may be that the stored settled position does not cover.
const staleSettlement = time.Minute

// storedSettlement matters to standbys: readers there cannot see fences.
func (e *examination) storedSettlement(events doctorEvents, settled int64) {
	age := time.Duration(e.facts.Now-events.Unsettled) * time.Microsecond
	if !e.facts.HasStandby && !e.facts.Standby || events.Unsettled == 0 || age < staleSettlement {
		return
	}
	e.add(Finding{
		Kind: FindingSettledBehind, Severity: slog.LevelWarn, Position: Position(e.facts.StoredSettlement), Held: settled - e.facts.StoredSettlement,
		Age: age, Remedy: fmt.Sprintf("SELECT %s.settle()", e.sql.schema),
		Text: fmt.Sprintf("Readers of the log on standbys end at the stored settled position %d, %d behind; the oldest event they lack is %s old. "+
			"Call Store.Settle on the primary regularly.", e.facts.StoredSettlement, settled-e.facts.StoredSettlement, shortly(age)),
	})
}
