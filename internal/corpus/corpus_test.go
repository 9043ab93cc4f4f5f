package corpus

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
	"github.com/sight-platform/hindsight/internal/corpus/corpustest"
)

// TestReadConvertsTheWholeCorpus also folds every discussion: each must begin, go on densely and end.
func TestReadConvertsTheWholeCorpus(t *testing.T) {
	folder := corpustest.Recordings(t)
	for _, test := range []struct {
		name             string
		lines, streams   int
		project          string
		replies, persons int
	}{
		{"ami_dialogue_acts_dev", 100_341, 119, "ami", 20_682, 476},
		{"qmsum_ami_train", 50_113, 97, "qmsum-ami", 0, 388},
		{"qmsum_ami_val", 12_114, 20, "qmsum-ami", 0, 80},
		{"qmsum_committee_train", 4_860, 24, "qmsum-committee", 0, 802},
		{"qmsum_committee_val", 1_388, 6, "qmsum-committee", 0, 194},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := foldFile(t, filepath.Join(folder, test.name+".ndjson.gz"))
			persons := 0
			for id, d := range got.discussions {
				require.Equal(t, focusgroup.StatusEnded, d.Status, id)
				require.Equal(t, test.project, d.ProjectID, id)
				for _, p := range d.Participants {
					require.True(t, p.Invited, "%s: %s speaks uninvited", id, p.PersonaID)
				}
				persons += len(d.Participants)
			}
			require.Equal(t, test.lines, got.lines)
			require.Len(t, got.discussions, test.streams)
			require.Equal(t, test.replies, got.replies)
			require.Equal(t, test.persons, persons)
		})
	}
}

type folded struct {
	lines, replies int
	discussions    map[eventstore.StreamID]*focusgroup.Discussion
}

// foldFile uses plain ifs: testify would take most of the time.
func foldFile(t *testing.T, path string) folded {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	codec := focusgroup.Codec()
	out := folded{discussions: map[eventstore.StreamID]*focusgroup.Discussion{}}
	for line, err := range ReadAny(f) {
		if err != nil {
			t.Fatal(err)
		}
		payload, err := codec.Decode(line.Event.Data.(eventstore.Raw))
		if err != nil {
			t.Fatal(err)
		}
		if out.lines++; replyTo(payload) > 0 {
			out.replies++
		}
		d := out.discussions[line.StreamID]
		if d == nil {
			d = &focusgroup.Discussion{}
			out.discussions[line.StreamID] = d
		}
		// Apply refuses a version that is not the next.
		if err := d.Apply(eventstore.Recorded{
			StreamID: line.StreamID, Version: line.Version, OccurredAt: line.Event.OccurredAt, Data: payload,
		}); err != nil {
			t.Fatal(err)
		}
		if line.Event.Project != d.ProjectID {
			t.Fatalf("line %d is of project %q", line.Number, line.Event.Project)
		}
	}
	return out
}

func replyTo(payload any) eventstore.Version {
	switch p := payload.(type) {
	case focusgroup.Response:
		return p.ReplyTo
	case focusgroup.Followup:
		return p.ReplyTo
	}
	return 0
}
