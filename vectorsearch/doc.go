// Package vectorsearch finds what was said by its meaning and its words, with filters, and as of a past position. It keeps the
// passages of a log's events with their vectors in PostgreSQL, by pgvector, as a projection.
//
//	index, err := vectorsearch.New(store, vectorsearch.Config{Embedder: embedder})
//	err = index.Migrate(ctx)
//	runner, err := projection.New(store, projection.Config{Projections: []projection.Projection{index}})
//	go runner.Run(ctx)                             // passages and vectors
//	go index.KeepIndexed(ctx, time.Minute, nil)    // HNSW indexes of months that are over or large
//	answer, err := index.Search(ctx, vectorsearch.Query{Text: "packaging that is hard to open"})
//
// # Guarantees
//
//	V1  Each event is embedded once in effect: its passages, their vectors and the checkpoint commit together. Nothing is
//	    embedded inside a transaction.
//	V2  A text is not paid for twice: one whose vector is in the tables is not embedded again, nor is one of a batch that
//	    failed; a kill repeats the batch in flight at most. (Shards that meet a new text at the same moment each pay for it.)
//	V3  A search as of a position is that of a log which ended there, statistics of words included. By an HNSW index it is so
//	    but for what the index overlooks.
//	V4  An answer says how it was found. One that is Complete left nothing out which passes its filters.
//	V5  No vector that is not of the model's dimensions, finite, and of a direction is stored or searched for.
//	V6  Building an index blocks no writer, and one that was interrupted is made again.
//
// # How a search goes
//
//	look     the months of the index, how far it has come, whether anything is parked           1 round trip
//	choose   by month: compare what passes the filters, or HNSW. What passes is the planner's   1, for large months with
//	         estimate; months of up to 10,000 vectors, and open ones, are compared              filters alone
//	search   all months in one statement; where HNSW gives up before it has enough, as few      1, for each of meaning and
//	         pass the filters, the month is compared after all                                  words
//	hydrate  texts, and the passages around them                                                1 or 2
//
// # Words
//
// Full text is ranked by BM25, computed over exactly what passes the filters, from PostgreSQL's own dictionaries, by the language
// of each passage. Polish has no stemmer in PostgreSQL: its words go through the hunspell dictionary where the server has one
// (Debian: hunspell-pl), and else are found by their beginnings.
//
// # Operating it
//
// [Index.Migrate] makes the extension, the runner the tables, with the rights of the role that calls them; [Index.Grant] gives
// another role what indexing and searching need. [Index.KeepIndexed] builds what is missing and drops months that are past
// Config.KeepMonths. [Index.Measure] says how many of the exact answers HNSW finds.
package vectorsearch
