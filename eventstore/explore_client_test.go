package eventstore_test

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/internal/explore"
)

// clientGates are gates between the statements of the library's own code, where its context names what is under way: a
// *reading, or the appending of an import.
type clientGates struct{ actor *explore.Actor }

type clientKey struct{}

func (g clientGates) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	switch client := ctx.Value(clientKey{}).(type) {
	case *reading:
		if strings.Contains(data.SQL, "ORDER BY position LIMIT") {
			client.paged = true
			g.pause(ctx, gatePage)
		}
	case *appending:
		if data.SQL == "commit" {
			g.pause(ctx, gateCommit)
		} else if strings.Contains(data.SQL, ".move_positions(") {
			g.pause(ctx, gateMove)
		}
	}
	return ctx
}

func (g clientGates) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	if _, importing := ctx.Value(clientKey{}).(*appending); importing && !strings.Contains(data.Batch.QueuedQueries[0].SQL, ".take_fence(") {
		g.pause(ctx, gateBatch)
	}
	return ctx
}

func (g clientGates) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	if _, importing := ctx.Value(clientKey{}).(*appending); importing {
		g.pause(ctx, gateCopy)
	}
	return ctx
}

// pause waits at a gate. That ctx has ended, the statement finds out itself.
func (g clientGates) pause(ctx context.Context, gate string) { _ = g.actor.Pause(ctx, gate) }

func (clientGates) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData)       {}
func (clientGates) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData)   {}
func (clientGates) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)       {}
func (clientGates) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}
