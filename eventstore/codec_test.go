package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// answer is an event type that has had three shapes: {"t":…}, {"text":…}, {"text":…,"words":…}.
type answer struct {
	Text  string `json:"text"`
	Words int    `json:"words"`
}

func answerType() eventstore.EventType {
	return eventstore.Type[answer]("answer",
		func(v1 json.RawMessage) (json.RawMessage, error) {
			var old struct{ T string }
			if err := json.Unmarshal(v1, &old); err != nil {
				return nil, err
			}
			return json.Marshal(map[string]string{"text": old.T})
		},
		func(v2 json.RawMessage) (json.RawMessage, error) {
			var old answer
			if err := json.Unmarshal(v2, &old); err != nil {
				return nil, err
			}
			if old.Text == "" {
				return nil, errors.New("an answer without text")
			}
			old.Words = len(strings.Fields(old.Text))
			return json.Marshal(old)
		})
}

// Guarantee 6: old bodies are read through a chain of upcasters; the stored bytes stay.
func TestOldSchemaVersionsAreReadThroughUpcasters(t *testing.T) {
	t.Parallel()
	codec, err := eventstore.NewCodec(answerType())
	require.NoError(t, err)
	log := newLog(t, eventstore.Config{Codec: codec})
	log.append(t, "a-1", eventstore.NoStream,
		eventstore.Raw{Type: "answer", SchemaVersion: 1, JSON: rawJSON(`{"T":"too sweet"}`)},
		eventstore.Raw{Type: "answer", SchemaVersion: 2, JSON: rawJSON(`{"text":"not for me"}`)},
		answer{Text: "fine", Words: 1})
	events := eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0))
	require.Equal(t, answer{"too sweet", 2}, events[0].Data)
	require.Equal(t, answer{"not for me", 3}, events[1].Data)
	require.Equal(t, answer{"fine", 1}, events[2].Data)
	require.Equal(t, []int{1, 2, 3}, []int{events[0].SchemaVersion, events[1].SchemaVersion, events[2].SchemaVersion})
	require.Equal(t, `{"T":"too sweet"}`, string(events[0].JSON))
}

func TestDecodingErrorsAreDistinctAndNameTheEvent(t *testing.T) {
	t.Parallel()
	codec, err := eventstore.NewCodec(answerType())
	require.NoError(t, err)
	log := newLog(t, eventstore.Config{Codec: codec})
	for name, c := range map[string]struct {
		raw  eventstore.Raw
		kind error
	}{
		"unknown type":   {eventstore.Raw{Type: "other", JSON: rawJSON(`{}`)}, eventstore.ErrUnknownType},
		"newer version":  {eventstore.Raw{Type: "answer", SchemaVersion: 4, JSON: rawJSON(`{}`)}, eventstore.ErrNewerSchema},
		"bad body":       {eventstore.Raw{Type: "answer", SchemaVersion: 3, JSON: rawJSON(`{"words":"many"}`)}, eventstore.ErrBadBody},
		"refused upcast": {eventstore.Raw{Type: "answer", SchemaVersion: 2, JSON: rawJSON(`{}`)}, eventstore.ErrUpcast},
		"bad old body":   {eventstore.Raw{Type: "answer", SchemaVersion: 1, JSON: rawJSON(`[]`)}, eventstore.ErrUpcast},
	} {
		t.Run(name, func(t *testing.T) {
			id := eventstore.NewStreamID("bad")
			receipt := log.append(t, id, eventstore.NoStream, answer{Text: "good"}, c.raw, answer{Text: "unreached"})
			var last error
			read := 0
			for _, err := range log.Stream(t.Context(), id, 0) {
				require.NoError(t, last, "an error comes last and once")
				if last = err; err == nil {
					read++
				}
			}
			require.Equal(t, 1, read)
			var decode *eventstore.DecodeError
			require.ErrorAs(t, last, &decode)
			for _, kind := range []error{eventstore.ErrUnknownType, eventstore.ErrNewerSchema, eventstore.ErrBadBody, eventstore.ErrUpcast} {
				require.Equal(t, errors.Is(c.kind, kind), errors.Is(last, kind), "%v is %v", last, kind)
			}
			require.Equal(t, id, decode.StreamID)
			require.EqualValues(t, 2, decode.Version)
			require.Equal(t, receipt.Positions[1], decode.Position)

			// An audit reads on without a codec.
			plain, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema()})
			require.NoError(t, err)
			events := eventstoretest.Collect(t, plain.Stream(t.Context(), id, 0))
			require.Len(t, events, 3)
			require.Equal(t, string(c.raw.JSON), string(events[1].Data.(eventstore.Raw).JSON))
		})
	}
}

func TestCodecRefusesAmbiguousTypes(t *testing.T) {
	t.Parallel()
	type other struct{}
	for name, types := range map[string][]eventstore.EventType{
		"one name twice": {eventstore.Type[note]("n"), eventstore.Type[other]("n")},
		"one type twice": {eventstore.Type[note]("n"), eventstore.Type[note]("m")},
		"no name":        {eventstore.Type[note]("")},
		"a pointer":      {eventstore.Type[*note]("n")},
		"an interface":   {eventstore.Type[any]("n")},
		"a zero value":   {{}},
	} {
		_, err := eventstore.NewCodec(types...)
		require.Error(t, err, name)
	}
	codec, err := eventstore.NewCodec(eventstore.Type[note]("n"), answerType())
	require.NoError(t, err)
	require.NotNil(t, codec)
	require.Equal(t, 3, answerType().SchemaVersion())
	require.Equal(t, "answer", answerType().Name())
}

// FuzzDecode: whatever the bytes, decoding gives a payload or a DecodeError of a known kind.
func FuzzDecode(f *testing.F) {
	codec, err := eventstore.NewCodec(answerType())
	require.NoError(f, err)
	f.Add("answer", 1, []byte(`{"T":"x"}`))
	f.Add("answer", 2, []byte(`{"text":"x"}`))
	f.Add("answer", 3, []byte(`{"text":1}`))
	f.Add("answer", -9, []byte(`null`))
	f.Add("x", 1<<40, []byte{0xff})
	f.Fuzz(func(t *testing.T, name string, version int, body []byte) {
		payload, err := codec.Decode(eventstore.Raw{Type: name, SchemaVersion: version, JSON: body})
		if err == nil {
			require.IsType(t, answer{}, payload)
			return
		}
		var decode *eventstore.DecodeError
		require.ErrorAs(t, err, &decode)
		require.NotEmpty(t, err.Error())
		known := false
		for _, kind := range []error{eventstore.ErrUnknownType, eventstore.ErrNewerSchema, eventstore.ErrBadBody, eventstore.ErrUpcast} {
			known = known || errors.Is(err, kind)
		}
		require.True(t, known, "%v", err)
	})
}

// FuzzStreamID: an id that validates has a category and goes through text as it is.
func FuzzStreamID(f *testing.F) {
	for _, seed := range []string{"", "a-b", "discussion-0190", "-", "a-\x00", "a-\xff", "ż-ź", "a-\u0085"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id := eventstore.StreamID(s)
		err := id.Validate()
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			return
		}
		require.NotEmpty(t, id.Category())
		require.True(t, strings.HasPrefix(s, id.Category()+"-"))
		require.LessOrEqual(t, len(s), eventstore.MaxStreamIDBytes)
		require.NotContains(t, s, "\x00")
	})
}

// U+FFFD is a character like others, also where a body or metadata write it as an escape.
func TestReplacementCharacterIsKept(t *testing.T) {
	t.Parallel()
	type wrapped struct {
		Raw  json.RawMessage `json:"raw"`
		Text string          `json:"text"`
	}
	codec, err := eventstore.NewCodec(eventstore.Type[wrapped]("wrapped"))
	require.NoError(t, err)
	log := newLog(t, eventstore.Config{Codec: codec})
	payload := wrapped{Raw: rawJSON(`"\ufffd"`), Text: "\ufffd"}
	log.append(t, "a-1", eventstore.NoStream, eventstore.Event{Data: payload, Metadata: eventstore.Metadata{Extra: map[string]json.RawMessage{"topic": rawJSON(`"\ufffd"`)}}})
	require.Equal(t, payload, eventstoretest.Collect(t, log.Stream(t.Context(), "a-1", 0))[0].Data)
	_, err = log.Append(t.Context(), "a-1", eventstore.Any, wrapped{Raw: rawJSON(`"\ufffd"`), Text: "a\xffb"})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

// The place kept for encryption: bodies are encoded before they are stored, by a key that the metadata names.
func TestCipherProtectsBodies(t *testing.T) {
	t.Parallel()
	log := newLog(t, eventstore.Config{Cipher: rot13("k1")})
	receipt := log.append(t, "secret-1", eventstore.NoStream, eventstore.Event{Data: note{"hello"}, Metadata: eventstore.Metadata{Actor: "me"}})
	var stored, metadata string
	require.NoError(t, log.Pool.QueryRow(t.Context(), log.sql(`SELECT event_data->>'sealed', metadata::text FROM {{schema}}.events WHERE position = $1`), receipt.Position()).Scan(&stored, &metadata))
	require.NotContains(t, stored, "hello")
	require.JSONEq(t, `{"actor":"me","key_id":"k1"}`, metadata)
	require.Equal(t, note{"hello"}, eventstoretest.Collect(t, log.Stream(t.Context(), "secret-1", 0))[0].Data)

	for name, cipher := range map[string]eventstore.Cipher{"no cipher": {}, "another key": rot13("k2")} {
		store, err := eventstore.New(log.Pool, eventstore.Config{Schema: log.Schema(), Codec: noteCodec(t), Cipher: cipher})
		require.NoError(t, err)
		require.ErrorIs(t, firstError(store.Stream(t.Context(), "secret-1", 0)), eventstore.ErrCipher, name)
	}
	// A body that is encoded already may be copied with its key id.
	original := eventstoretest.Collect(t, log.Stream(t.Context(), "secret-1", 0))[0]
	log.append(t, "secret-2", eventstore.NoStream, eventstore.Event{
		Data: eventstore.Raw{Type: original.Type, SchemaVersion: original.SchemaVersion, JSON: original.JSON}, Metadata: original.Metadata,
	})
	require.Equal(t, note{"hello"}, eventstoretest.Collect(t, log.Stream(t.Context(), "secret-2", 0))[0].Data)
}

// A cipher that fails, or changes a body that no reader would know to decode, writes nothing.
func TestCipherThatFailsWritesNothing(t *testing.T) {
	t.Parallel()
	outage := errors.New("the key service is down")
	log := newLog(t, eventstore.Config{Cipher: eventstore.Cipher{Encode: func(_ context.Context, e eventstore.CipherInfo) (json.RawMessage, string, error) {
		if e.StreamID == "a-1" {
			return nil, "", outage
		}
		return rawJSON(`{"changed":true}`), "", nil
	}}})
	_, err := log.Append(t.Context(), "a-1", eventstore.Any, note{"x"})
	require.ErrorIs(t, err, outage)
	require.ErrorIs(t, err, eventstore.ErrCipher)
	require.NotErrorIs(t, err, eventstore.ErrInvalid)
	_, err = log.Append(t.Context(), "a-2", eventstore.Any, note{"x"})
	require.ErrorIs(t, err, eventstore.ErrCipher)
	require.Empty(t, eventstoretest.Collect(t, log.All(t.Context(), 0, eventstore.Filter{})))
}

// rot13 stands in for a cipher: what matters here is that both hooks run, with the key.
func rot13(key string) eventstore.Cipher {
	turn := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return 'a' + (r-'a'+13)%26
			}
			return r
		}, s)
	}
	return eventstore.Cipher{
		Encode: func(_ context.Context, e eventstore.CipherInfo) (json.RawMessage, string, error) {
			body, err := json.Marshal(map[string]string{"sealed": turn(string(e.JSON))})
			return body, key, err
		},
		Decode: func(_ context.Context, e eventstore.CipherInfo) (json.RawMessage, error) {
			if e.Metadata.KeyID != key {
				return nil, errors.New("the key was erased")
			}
			var body struct{ Sealed string }
			err := json.Unmarshal(e.JSON, &body)
			return rawJSON(turn(body.Sealed)), err
		},
	}
}
