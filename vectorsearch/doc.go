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
//	    failed; a kill repeats the batch in flight at most. (Shards that meet a new text at the same
//	    moment each pay for it. Reset forgets the vectors, so that all texts are paid for again.)
//	V3  A search as of a position is that of a log which ended there, statistics of words included. By an HNSW index it is so
//	    but for what the index overlooks.
//	V4  An answer says how it was found. One that is Complete left nothing out which passes its filters.
//	V5  No vector that is not of the model's dimensions, finite, and of a direction is stored or searched for.
//	V6  Building an index blocks no writer, and one that was interrupted is made again.
//
// # How a search goes
//
// All of it is in one read-only snapshot, so that hits, statistics and context are of one moment, whatever is indexed meanwhile:
//
//	look     the months of the index, how far it has come, whether anything is parked           1 round trip
//	choose   by month: compare what passes the filters, or HNSW, whichever the planner's        1, for large months with
//	         estimate says is cheaper. Months of up to 10,000 vectors, or without an HNSW       a filter it has not been
//	         index yet, are compared                                                            asked about for a minute
//	search   all months in one statement; where HNSW gives up before it has enough, as few      1, for each of meaning and
//	         pass the filters, the month is compared after all                                  words
//	hydrate  texts, and the passages around them                                                1 or 2
//
// A plain search by meaning sends all of that in one round trip, for what the index held a moment ago, and takes the long way
// where the look shows that it holds something else by now.
//
// # When things go wrong
//
//	the service wants a pause     the batch waits, and goes on as it was
//	a text cannot be embedded     its event is parked with its discussion; the rest of the batch is kept, and not paid for again
//	a text fails as if it would   after three times, while the service embeds another text, it is parked like that
//	pass
//	the key is refused            nothing is parked; the same batch is tried again until somebody mends it
//	an indexer is killed          the next one repeats the batch in flight
//	Reset, or a dropped month,    the batch fails, its month is made again, and it is repeated
//	under an indexer at work
//	a build is interrupted        the index that is not valid is dropped and built again by the next Maintain
//	a month is dropped under a    it looks again, once
//	search
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
