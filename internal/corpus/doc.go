// Package corpus reads recorded discussions in the line format of the corpus of real meetings that tests, benchmarks and
// the demo run on, and turns them into lines that focusgroup.Import takes.
//
// A corpus file is NDJSON, gzipped or not: one event a line, each stream from its discussion_started (seq 1, with the
// participants in meta) to its discussion_ended, seq without gaps.
//
//	{"stream":"ami-ES2002a","seq":2,"type":"followup","occurred_at":"…","time_source":"measured","speaker_id":"FEE005",
//	 "speaker_name":"…","speaker_role":"moderator","persona":{…},"question":null,"text":"…","duration_seconds":0.57,"meta":{…}}
//
//	corpus                             recording
//	stream, seq                        stream discussion-<stream>, version
//	stream + seq                       event id (UUID version 5: a second import is recognisable)
//	meta.corpus "QMSum/ami"            project "qmsum-ami", in every event of the stream
//	meta.participants                  participants, moderator
//	meta.reply_to_seq                  reply_to
//	time_source and the other meta     metadata, nulls left out
//	persona of a turn                  nothing: discussion_started says it once
//
// The topics of a discussion stay metadata too. They are no guide of questions: annotators named the stretches of a
// meeting by them afterwards, and most turns have another question open.
package corpus
