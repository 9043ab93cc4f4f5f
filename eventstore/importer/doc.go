// Package importer brings into an event log what services have today: a table of events, and recordings.
//
// [FromTable] reads a table of the shape memory_events(id, event_type, event_data, created_at, …), in the database of the
// log or in another one. [FromRecording] reads a recording of package focusgroup. Both write by [eventstore.Store.Import]:
// by COPY, in transactions of some 5,000 events, while others append and read.
//
// # Guarantees
//
//   - A row becomes an event once: its event id is the row's own (a uuid), or made from the import's name and the row's id.
//   - An import that was ended by anything, SIGKILL included, goes on where it was when it is run again. The bookmark, the
//     place of the last row in the order of (created_at, id), commits with the rows before it.
//   - Nothing is left out in silence. A row that cannot be an event ends the import with a [*RowError] that names it, unless
//     TableConfig.Skip gives a reason to leave it out; what is left out stands in the log's table import_skips. At the end
//     every row up to the bookmark is looked for in the log.
//   - created_at is kept as the recorded time, and decides the month; months are made, however old.
//   - Bodies are kept byte for byte as PostgreSQL prints them; where the store has a codec, each must fit its type.
//
// # Before an import
//
// The store's role needs the rights that [eventstore.Store.Import] names, most simply those of the log's owner. The pool of
// the table needs SELECT on it. An index on (created_at, id) spares a sort a page. The table is read in pages, without a
// transaction around them: an import does not hold back the vacuum.
//
// # Failure cases
//
//   - Rows that were committed late, with a created_at before the bookmark, are not seen by the run that passed them. The
//     look back at the end of that run or a later one finds them: [ErrLateRows], or TableConfig.TakeLate. Run it once more
//     when the last writer of the table has stopped. Rows of months that are no longer online are not looked for.
//   - An event that TakeLate wrote stands in the month in which it was taken. Once that month is no longer online while the
//     one of created_at still is, the row seems late again, and TakeLate writes it twice: take months offline oldest
//     first, and leave TakeLate off when the table is done.
//   - A service that appends to a stream before the stream's rows are imported has placed its events first: the rows are
//     older, and are refused ([eventstore.ErrRecordedAt]). Import first, then switch the service over.
//   - A row without an id or a created_at, with a created_at that is no point in time, or with an id that another row has,
//     is refused before anything is written. Give a view that mends such rows as the table.
//   - JSON that PostgreSQL's json takes and its operators then choke on (\u0000, lone surrogates) breaks a limit of the log.
//   - Two runs of one import at once: one of them ends with [eventstore.ErrImportOvertaken].
package importer
