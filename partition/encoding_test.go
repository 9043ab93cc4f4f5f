package partition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sight-platform/hindsight/eventstore"
)

// What a line holds is read as it was written, and as encoding/json reads it.
func TestLinesKeepEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instant := rapid.Map(rapid.Int64Range(-60_000_000_000_000_000, 250_000_000_000_000_000), func(us int64) time.Time { return time.UnixMicro(us).UTC() })
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`{"a": "\"\\ \u0000\n"}`, "\x7f\u2028\t\r\n<&>", `\`, `"`, "", "zażółć 🙂"}))
		event := eventstore.Recorded{
			Position: eventstore.Position(rapid.Int64Min(0).Draw(t, "position")), RecordedAt: instant.Draw(t, "recorded"),
			StreamID: eventstore.StreamID(text.Draw(t, "stream")), Version: eventstore.Version(rapid.Int64Min(0).Draw(t, "version")),
			ID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")), Type: text.Draw(t, "type"),
			SchemaVersion: int(rapid.Int32Min(0).Draw(t, "schema")), OccurredAt: instant.Draw(t, "occurred"),
			JSON: json.RawMessage(text.Draw(t, "data")), MetadataJSON: json.RawMessage(text.Draw(t, "metadata")),
		}
		data := appendLine(nil, rowOf(event))
		require.Equal(t, 1, bytes.Count(data, []byte("\n")))
		for _, parse := range []func([]byte, *eventstore.Recorded) error{parseLine, parseOther} {
			var read eventstore.Recorded
			require.NoError(t, parse(bytes.TrimSuffix(data, []byte("\n")), &read))
			require.Equal(t, event, read)
		}
	})
}

// A line of another form is read if it is JSON, and refused if it is not; nothing is read as something else.
func TestLinesOfOthers(t *testing.T) {
	event := eventstore.Recorded{Position: 12, StreamID: "a-1", Version: 3, Type: "said", SchemaVersion: 1, JSON: json.RawMessage(`{"n":"\\"}`), MetadataJSON: json.RawMessage(`{}`)}
	good := bytes.TrimSuffix(appendLine(nil, rowOf(event)), []byte("\n"))
	var spaced bytes.Buffer
	require.NoError(t, json.Indent(&spaced, good, "", " "))
	var read eventstore.Recorded
	require.NoError(t, parseLine(spaced.Bytes(), &read))
	require.Equal(t, event.JSON, read.JSON)
	for n := range good { // cut short or with a byte changed, it is what encoding/json makes of it
		changed := bytes.Clone(good)
		changed[n] ^= 0x15
		for _, data := range [][]byte{good[:n], changed} {
			var mine, others eventstore.Recorded
			mineErr, othersErr := parseLine(data, &mine), parseOther(data, &others)
			require.Equal(t, othersErr == nil, mineErr == nil, "%s: %v, %v", data, mineErr, othersErr)
			require.Equal(t, others, mine, "%s", data)
		}
	}
}

// A Bloom filter knows every stream that it was given, and takes few others for one.
func TestBloomFilters(t *testing.T) {
	const streams = 5000
	filter := newBloom(streams)
	id := func(n int) eventstore.StreamID { return eventstore.StreamID(fmt.Sprintf("discussion-%d", n)) }
	for n := range streams {
		filter.add(id(n))
	}
	wrong := 0
	for n := range streams {
		require.True(t, filter.mayHold(id(n)))
		if filter.mayHold(id(streams + n)) {
			wrong++
		}
	}
	require.Less(t, wrong, streams/50)
	require.True(t, bloom(nil).mayHold("a-1"), "what has no filter may hold everything")
}

func rowOf(e eventstore.Recorded) *row {
	return &row{
		Position: int64(e.Position), RecordedAt: e.RecordedAt.UnixMicro(), StreamID: string(e.StreamID), Version: int64(e.Version), EventID: e.ID,
		EventType: e.Type, SchemaVersion: int32(e.SchemaVersion), OccurredAt: e.OccurredAt.UnixMicro(), EventData: string(e.JSON), Metadata: string(e.MetadataJSON),
	}
}
