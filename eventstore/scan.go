package eventstore

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const eventColumns = `position, recorded_at, stream_id, version, event_id, event_type, schema_version, occurred_at, event_data, metadata`

// The columns by their place in eventColumns.
const (
	colPosition = iota
	colRecordedAt
	colStreamID
	colVersion
	colEventID
	colType
	colSchemaVersion
	colOccurredAt
	colData
	colMetadata
)

// scanEvents reads rows of eventColumns into a slice that it may reuse. Data stays nil; see decode. It decodes PostgreSQL's
// binary format itself: with pgx's Scan, half of a read's time goes into ten dynamic conversions a row.
func scanEvents(rows pgx.Rows, events []Recorded) ([]Recorded, error) {
	defer rows.Close()
	events = events[:0]
	binaryRows := binaryFormat(rows)
	for rows.Next() {
		var previous *Recorded
		if n := len(events); n > 0 {
			previous = &events[n-1]
		}
		events = append(events, Recorded{})
		event := &events[len(events)-1]
		if binaryRows {
			event.fill(rows.RawValues(), previous)
			continue
		}
		if err := rows.Scan((*int64)(&event.Position), &event.RecordedAt, (*string)(&event.StreamID), (*int64)(&event.Version), &event.ID,
			&event.Type, &event.SchemaVersion, &event.OccurredAt, (*[]byte)(&event.JSON), (*[]byte)(&event.MetadataJSON)); err != nil {
			return nil, err
		}
		event.RecordedAt, event.OccurredAt = event.RecordedAt.UTC(), event.OccurredAt.UTC()
	}
	return events, rows.Err()
}

// binaryFormat says whether the server sends what is not text in its binary format: not so under the simple protocol. Text
// and json are the same in both.
func binaryFormat(rows pgx.Rows) bool {
	for i, column := range rows.FieldDescriptions() {
		switch i {
		case colStreamID, colType, colData, colMetadata:
		default:
			if column.Format != pgx.BinaryFormatCode {
				return false
			}
		}
	}
	return true
}

// fill takes the event out of a row, whose bytes are the connection's. Neighbours often share stream and type.
func (e *Recorded) fill(row [][]byte, previous *Recorded) {
	e.Position = Position(binary.BigEndian.Uint64(row[colPosition]))
	e.RecordedAt = timeOf(row[colRecordedAt])
	if previous != nil && string(row[colStreamID]) == string(previous.StreamID) {
		e.StreamID = previous.StreamID
	} else {
		e.StreamID = StreamID(row[colStreamID])
	}
	e.Version = Version(binary.BigEndian.Uint64(row[colVersion]))
	e.ID = uuid.UUID(row[colEventID])
	if previous != nil && string(row[colType]) == previous.Type {
		e.Type = previous.Type
	} else {
		e.Type = string(row[colType])
	}
	e.SchemaVersion = int(int32(binary.BigEndian.Uint32(row[colSchemaVersion])))
	e.OccurredAt = timeOf(row[colOccurredAt])
	data, metadata := row[colData], row[colMetadata]
	both := make([]byte, len(data)+len(metadata))
	copy(both, data)
	copy(both[len(data):], metadata)
	e.JSON, e.MetadataJSON = both[:len(data):len(data)], both[len(data):]
}

// timeOf reads a timestamptz: microseconds since the year 2000. The log holds no infinite ones.
func timeOf(value []byte) time.Time {
	const year2000 = 946_684_800_000_000
	return time.UnixMicro(int64(binary.BigEndian.Uint64(value)) + year2000).UTC()
}
