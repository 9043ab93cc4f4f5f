// Package analytics builds a star schema from the log: facts, dimensions and aggregates that an analyst opens in any BI tool and a
// service in any language reads with SQL.
//
//	star, err := analytics.New(store, analytics.Config{TimeZone: "Europe/Warsaw"})
//	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{star}})
//	go runner.Run(ctx)                       // facts and dimensions
//	go star.KeepFresh(ctx, time.Minute, nil) // aggregates
//
// The tables stand in the log's schema, as name_vN behind views of the plain names; each table and column has a comment.
//
// # Guarantees
//
//	A1  A fact is written once, with its event's position, in the month of its timestamp. It is exactly what its Rows makes of
//	    the event; no fact is ever changed but that of a session, which is summed up anew from the facts of its turns.
//	A2  Foreign keys hold at each commit: who is mentioned before being introduced has a placeholder, which the event that
//	    introduces them fills.
//	A3  The history of a persona, a user or a project (dim_persona_history and so on) goes by position, whenever an event is
//	    applied, so that what occurred late never changes what was: a fact belongs to the row with from_position <= position
//	    < to_position. The dimension itself has the member as it is.
//	A4  An aggregate equals its SQL over all facts, once the days and projects that changed were refreshed: each fact leaves a
//	    mark in its own transaction, and a refresh takes the marks and computes their days in one. A day of which one aggregate
//	    cannot be computed is marked again for that one, and told of; all others are computed.
//
// # Time
//
// A fact's timestamp is the event's occurred_at; its day is that of Config.TimeZone, in which weeks begin on Monday. Partitions
// are by months of timestamp in UTC. They outlive the log's months, whose times are recorded_at.
//
// # Operating it
//
// [Star.Check] runs quality checks and keeps their history; [Star.AddColumn] adds an attribute to live tables; [Open] reads with
// limits of its own, from a replica too, and says how far what it reads goes; [Star.Dictionary] describes the tables as they
// are, [Star.MaterializedView] gives an aggregate for those who refresh views by themselves.
// [Star.Grant] and [Star.GrantReader] give roles that own nothing what a worker and a reader need.
//
// # Declaring more
//
// A [Fact], an [Attribute] of a dimension or an [Aggregate] is declared by its columns and a function or a SELECT: the table,
// its indexes, partitions, comments and loading follow. Raise Config.Version with every change of what is declared: the
// new version is built beside the old one, refreshed, and shown by [projection.Runner.Serve].
package analytics
