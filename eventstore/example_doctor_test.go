package eventstore_test

import (
	"context"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Readers lag behind. Doctor names the transaction that holds them back: one that appended first, and then took its time.
func ExampleStore_Doctor() {
	ctx := context.Background()
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: exampleCodec()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = log.Close(ctx) }()

	tx, err := log.Pool.Begin(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `SET LOCAL application_name = 'importer'`)
	if err == nil {
		_, err = log.WithTx(tx).Append(ctx, "discussion-41", eventstore.NoStream, said{"Imported."})
	}
	if err == nil {
		_, err = log.Append(ctx, "discussion-42", eventstore.NoStream, said{"Live."})
	}
	if err == nil {
		_, err = tx.Exec(ctx, `SELECT pg_sleep(1.1)`)
	}
	if err != nil {
		fmt.Println(err)
		return
	}

	found, err := log.Doctor(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range found { // a program would log them all: logger.Log(ctx, f.Severity, f.Text, "kind", f.Kind)
		if f.Kind == eventstore.FindingSlowAppender {
			fmt.Printf("%s %s: %s, %s, holds readers at position %d, %d behind\n", f.Severity, f.Kind, f.Application, f.State, f.Position, f.Held)
		}
	}
	// Output:
	// WARN slow_appender: importer, idle in transaction, holds readers at position 0, 2 behind
}
