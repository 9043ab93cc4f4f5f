// Package snapshot loads the state of a stream from its newest snapshot and the events after it, and tells what the state was at
// another time.
//
// # Guarantees
//
//	S1  A snapshot never changes an answer. It is used only with the same stream, fold, fold version and format, only where
//	    its bytes have the digest they were stored with, and only where the event it ends with still stands in the stream;
//	    the events after it are always read. Anything else is a fold from zero.
//	S2  A snapshot never gets in the way: it is written after a load, outside any append, and its failure is only logged.
//	S3  What was known at a time ([At].Recorded) never changes: it is what was settled at the first moment after that time,
//	    and moments are kept.
//
// Package snapshot keeps its tables beside the log's: see [Migrate].
package snapshot
