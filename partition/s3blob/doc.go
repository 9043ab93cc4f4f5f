// Package s3blob keeps the archives of package partition in a bucket of an S3-compatible object store.
//
// [Open] gives a [partition.Blob] for partition.Config and [partition.NewCold]. The credentials of its client have to allow PutObject,
// GetObject, ListBucket and DeleteObject (s3:PutObject and so on), and no rule of the bucket may expire what lies in its folder.
//
// # What it relies on
//
//   - Conditional writes (If-None-Match: *), so that no object is ever replaced. Open proves with a probe that the store has them;
//     that the store also decides between writers at one moment, no probe can show.
//   - SHA-256 in the request's signature, and Content-MD5: the store refuses what arrives with other bytes than were sent.
//   - Reads that see what was written before, by whomever.
//
// # Failure cases
//
//   - The store has stored an object, and its answer is lost: the client sends it again, and is told that there is one: ours. Put then
//     returns [partition.ErrExists] for an object of this very content. Package partition compares contents where it gets this error.
//   - Open is killed: an object .hindsight-probe-… of a few bytes stays, which nobody reads.
//   - Versions are kept in the bucket: what Delete removes can still be had from the store, and still costs.
package s3blob
