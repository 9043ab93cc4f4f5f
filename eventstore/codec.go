package eventstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// Codec turns payloads into JSON and back. It is immutable and safe for concurrent use; a program may have several.
type Codec struct {
	byName map[string]*EventType
	byType map[reflect.Type]*EventType
}

// EventType binds a Go type to an event type's name and schema versions. Make one with [Type].
type EventType struct {
	name      string
	goType    reflect.Type
	upcasters []Upcaster
	decode    func([]byte) (any, error)
}

// Upcaster turns a body of one schema version into the next. It gets the stored bytes (or the previous upcaster's
// result) and must not change them in place.
type Upcaster func(json.RawMessage) (json.RawMessage, error)

// Type declares that payloads of type T are events of the given type. The schema version written is one more than the
// number of upcasters: the first upcaster turns version 1 into 2, and so on, so the chain cannot have a hole. Stored
// bytes are never rewritten.
func Type[T any](name string, upcasters ...Upcaster) EventType {
	return EventType{
		name: name, goType: reflect.TypeFor[T](), upcasters: upcasters,
		decode: func(data []byte) (any, error) {
			var payload T
			err := json.Unmarshal(data, &payload)
			return payload, err
		},
	}
}

// Name is the event type as it stands in the log.
func (t EventType) Name() string { return t.name }

// SchemaVersion is the version written by this program.
func (t EventType) SchemaVersion() int { return len(t.upcasters) + 1 }

// NewCodec makes a codec of the given types. A type's name and its Go type must each be given once.
func NewCodec(types ...EventType) (*Codec, error) {
	c := &Codec{byName: map[string]*EventType{}, byType: map[reflect.Type]*EventType{}}
	for _, t := range types {
		if t.decode == nil {
			return nil, errors.New("codec: an EventType that Type did not make")
		}
		if reason := checkType(t.name); reason != "" {
			return nil, fmt.Errorf("codec: the name of %s %s", t.goType, reason)
		}
		if t.goType.Kind() == reflect.Pointer || t.goType.Kind() == reflect.Interface {
			return nil, fmt.Errorf("codec: %s is declared for %s, want a value type", t.name, t.goType)
		}
		if c.byName[t.name] != nil || c.byType[t.goType] != nil {
			return nil, fmt.Errorf("codec: %s or %s is declared twice", t.name, t.goType)
		}
		c.byName[t.name], c.byType[t.goType] = &t, &t
	}
	return c, nil
}

// encode gives the type, schema version and bytes of a payload.
func (c *Codec) encode(payload any) (Raw, error) {
	t := reflect.TypeOf(payload)
	if t.Kind() == reflect.Pointer {
		if t = t.Elem(); reflect.ValueOf(payload).IsNil() {
			return Raw{}, fmt.Errorf("the %T is nil", payload)
		}
	}
	if c == nil || c.byType[t] == nil {
		return Raw{}, fmt.Errorf("%w: %T", ErrUnknownType, payload)
	}
	known := c.byType[t]
	data, err := marshal(payload)
	if err != nil {
		return Raw{}, err
	}
	if hasReplacementEscape(data) && holdsBadText(reflect.ValueOf(payload)) {
		return Raw{}, errors.New("a text is not valid UTF-8")
	}
	return Raw{Type: known.name, SchemaVersion: known.SchemaVersion(), JSON: data}, nil
}

// Decode turns stored bytes into a payload, through the upcasters of later schema versions. Its errors are
// [*DecodeError]s that match [ErrUnknownType], [ErrNewerSchema], [ErrUpcast] or [ErrBadBody].
func (c *Codec) Decode(raw Raw) (any, error) {
	known := c.byName[raw.Type]
	fail := func(kind, cause error) (any, error) {
		return nil, &DecodeError{Type: raw.Type, SchemaVersion: raw.SchemaVersion, Kind: kind, Err: cause}
	}
	switch {
	case known == nil:
		return fail(ErrUnknownType, nil)
	case raw.SchemaVersion > known.SchemaVersion():
		return fail(ErrNewerSchema, fmt.Errorf("this program knows up to %d", known.SchemaVersion()))
	case raw.SchemaVersion < 1:
		return fail(ErrBadBody, errors.New("schema versions start at 1"))
	}
	body := raw.JSON
	for i, upcast := range known.upcasters[raw.SchemaVersion-1:] {
		var err error
		if body, err = upcast(body); err != nil {
			from := raw.SchemaVersion + i
			return fail(ErrUpcast, fmt.Errorf("%d to %d: %w", from, from+1, err))
		}
	}
	payload, err := known.decode(body)
	if err != nil {
		return fail(ErrBadBody, err)
	}
	return payload, nil
}

// marshal is json.Marshal without HTML escapes, which would only make stored text harder to read.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// hasReplacementEscape suspects that a marshalled text was not UTF-8: encoding/json writes bad bytes as \ufffd, and a real
// U+FFFD as itself. A body that was JSON before may hold that escape too; holdsBadText knows.
func hasReplacementEscape(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] == '\\' {
			if bytes.HasPrefix(data[i+1:], []byte("ufffd")) {
				return true
			}
			i++
		}
	}
	return false
}

// holdsBadText looks through a value for a text that is not valid UTF-8.
func holdsBadText(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return !utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && holdsBadText(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if holdsBadText(v.Field(i)) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 { // bytes, or JSON that is checked as such
			return false
		}
		for i := range v.Len() {
			if holdsBadText(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for pairs := v.MapRange(); pairs.Next(); {
			if holdsBadText(pairs.Key()) || holdsBadText(pairs.Value()) {
				return true
			}
		}
	}
	return false
}
