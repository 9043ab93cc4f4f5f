// Package focusgroup is the vocabulary of focus-group services: typed events, the state of a discussion, and recordings.
//
// A discussion is a stream: a [DiscussionStarted], any number of [Response] and [Followup] turns, a [DiscussionEnded].
// Users, projects, personas and surveys have streams of their own. [Codec] makes an eventstore understand all of them;
// [Load] folds a discussion's events into its present [Discussion] state.
//
// # Recordings
//
// A recording is NDJSON, one event a line, in the order they were appended. [Export] writes it, [ReadRecording] and
// [Import] read it, all of them streaming. What is exported, imported into an empty log and exported again gives the
// same bytes. A recording holds the discussion, not the log: position and recorded time belong to the log that keeps it.
//
//	{"recording":1,"stream":"discussion-…","version":1,"id":"…","type":"discussion_started","schema_version":1,"occurred_at":"…","data":{…},"metadata":{…}}
//
// The fields "recording" (the version of this format, 1), "stream", "version" (dense within its stream), "type",
// "occurred_at" (RFC 3339) and "data" are required; "id" (a UUID) defaults to a new one, "schema_version" to 1 and
// "metadata" to none. Any other field is refused. Lines of several streams may be mixed.
package focusgroup
