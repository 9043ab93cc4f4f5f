package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Two moderators answer the same version of a discussion; one of them learns that it came second.
func ExampleStore_Append_expectedVersion() {
	ctx := context.Background()
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: exampleCodec()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = log.Close(ctx) }()

	id := eventstore.StreamID("discussion-42")
	receipt, err := log.Append(ctx, id, eventstore.NoStream, said{"Shall we begin?"})
	fmt.Println(receipt.Version, err)
	receipt, err = log.Append(ctx, id, eventstore.AtVersion(1), said{"First question."})
	fmt.Println(receipt.Version, err)

	_, err = log.Append(ctx, id, eventstore.AtVersion(1), said{"No, mine!"})
	var conflict *eventstore.ConflictError
	if errors.As(err, &conflict) {
		fmt.Println("conflict: the stream is at version", conflict.Actual)
	}
	// Output:
	// 1 <nil>
	// 2 <nil>
	// conflict: the stream is at version 2
}

type said struct {
	Text string `json:"text"`
}

func exampleCodec() *eventstore.Codec {
	codec, err := eventstore.NewCodec(eventstore.Type[said]("said"))
	if err != nil {
		panic(err)
	}
	return codec
}
