package eventstore_test

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
	"github.com/sight-platform/hindsight/internal/devdb"
)

// note is the payload of these tests.
type note struct {
	Text string `json:"text"`
}

func noteCodec(t testing.TB) *eventstore.Codec {
	t.Helper()
	codec, err := eventstore.NewCodec(eventstore.Type[note]("note"))
	require.NoError(t, err)
	return codec
}

func newLog(t testing.TB, config eventstore.Config) testLog {
	t.Helper()
	if config.Codec == nil {
		config.Codec = noteCodec(t)
	}
	return testLog{eventstoretest.New(t, config)}
}

// directURL leads to the logs' database past the pooler, if there is one: for tests that need a session of their own.
func directURL(t testing.TB) string {
	t.Helper()
	database, err := devdb.Shared(testContext(t, time.Minute))
	require.NoError(t, err)
	return database.DirectURL
}

func testContext(t testing.TB, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func rawJSON(s string) json.RawMessage { return json.RawMessage(s) }

// testLog adds what the tests of this package need to a throwaway log.
type testLog struct{ *eventstoretest.Log }

func (l testLog) append(t testing.TB, id eventstore.StreamID, expected eventstore.Expected, events ...any) eventstore.Receipt {
	t.Helper()
	receipt, err := l.Append(testContext(t, time.Minute), id, expected, events...)
	require.NoError(t, err)
	return receipt
}

func (l testLog) exec(t testing.TB, sql string) {
	t.Helper()
	_, err := l.Pool.Exec(testContext(t, time.Minute), l.sql(sql))
	require.NoError(t, err)
}

func (l testLog) sql(sql string) string { return strings.ReplaceAll(sql, "{{schema}}", l.Schema()) }

// firstError is the error a sequence ends with, if it does.
func firstError(events iter.Seq2[eventstore.Recorded, error]) error {
	for _, err := range events {
		if err != nil {
			return err
		}
	}
	return nil
}
