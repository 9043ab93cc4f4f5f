package eventstore_test

import (
	"encoding/json"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
)

// rated is the second schema version of an event that was once {"stars": 4}.
type rated struct {
	Score float64 `json:"score"` // 0 to 1
}

// An event type has changed its shape: old events are read through an upcaster, and stay as they were written.
func ExampleType() {
	codec, err := eventstore.NewCodec(
		eventstore.Type[rated]("rated", func(v1 json.RawMessage) (json.RawMessage, error) {
			var old struct{ Stars float64 }
			if err := json.Unmarshal(v1, &old); err != nil {
				return nil, err
			}
			return json.Marshal(rated{Score: old.Stars / 5})
		}),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(codec.Decode(eventstore.Raw{Type: "rated", SchemaVersion: 1, JSON: json.RawMessage(`{"stars":4}`)}))
	fmt.Println(codec.Decode(eventstore.Raw{Type: "rated", SchemaVersion: 2, JSON: json.RawMessage(`{"score":0.5}`)}))
	_, err = codec.Decode(eventstore.Raw{Type: "rated", SchemaVersion: 3, JSON: json.RawMessage(`{}`)})
	fmt.Println(err)
	// Output:
	// {0.8} <nil>
	// {0.5} <nil>
	// event of a newer schema version: rated, schema version 3: this program knows up to 2
}
