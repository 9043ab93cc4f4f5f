package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// A service commits its own rows and its events together.
func ExampleStore_WithTx() {
	ctx := context.Background()
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: exampleCodec()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = log.Close(ctx) }()
	invoices := pgx.Identifier{log.Schema(), "invoices"}.Sanitize()
	if _, err := log.Pool.Exec(ctx, `CREATE TABLE `+invoices+` (id text PRIMARY KEY)`); err != nil {
		fmt.Println(err)
		return
	}

	book := func(fail bool) error {
		return pgx.BeginFunc(ctx, log.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO `+invoices+` VALUES ('i-1')`); err != nil {
				return err
			}
			if _, err := log.WithTx(tx).Append(ctx, "discussion-42", eventstore.Any, said{"invoiced"}); err != nil {
				return err
			}
			if fail {
				return errors.New("second thoughts")
			}
			return nil
		})
	}
	fmt.Println(book(true))
	_, err = log.Head(ctx, "discussion-42")
	fmt.Println(errors.Is(err, eventstore.ErrStreamNotFound))
	fmt.Println(book(false))
	head, err := log.Head(ctx, "discussion-42")
	fmt.Println(head.Version, err)
	// Output:
	// second thoughts
	// true
	// <nil>
	// 1 <nil>
}
