// Package hindsight documents a library for focus-group services over PostgreSQL: an append-only event log that keeps
// every message of a discussion, to be audited, replayed, followed and turned into analytics. This package holds no code.
//
// # Where to start
//
//   - eventstore: the log. Append to streams, read them, follow the global order without ever skipping an event.
//   - eventstore/focusgroup: typed events of discussions, the state of a discussion, recordings in and out.
//   - eventstore/eventstoretest: a throwaway log for your tests.
//   - projection: tables built from the log, exactly once in effect, by any number of workers. projection/analytics is a star
//     schema built so.
//   - snapshot: the state of a stream now and at any time before; snapshot/replay plays discussions again.
//
// The README has a first program; `make demo` shows the log at work on recorded discussions.
//
// # Arrows
//
// Packages import downwards only:
//
//	examples (a module of its own)
//	   │
//	projection/analytics   snapshot/replay
//	   │                      │        │
//	projection            snapshot   eventstore/focusgroup   eventstore/eventstoretest ── internal/devdb
//	   │                      │        │                        │
//	   └──────────────────────┴─── eventstore ──────────────────┘
//	                                   │
//	                        internal/migrate ── internal/pg
package hindsight
