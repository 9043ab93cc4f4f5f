package corpus

import (
	"fmt"
	"math"

	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// participant is how discussion_started introduces one. Null values are unknown.
type participant struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Role    string   `json:"role"`
	Persona *persona `json:"persona"`
}

type persona struct {
	Sex            string  `json:"sex"`
	Age            float64 `json:"age"`
	NativeLanguage string  `json:"native_language"`
	Region         string  `json:"region"`
	Role           string  `json:"role"`
}

// participants reads those of a discussion_started, and who of them moderates.
func participants(r *record) (people []focusgroup.Participant, moderator string, err error) {
	var given []participant
	if err := r.takeMeta("participants", &given, true); err != nil {
		return nil, "", err
	}
	for i, p := range given {
		field := fmt.Sprintf("meta.participants[%d]", i)
		if p.ID == "" {
			return nil, "", r.wrongf(field+".id", "is missing")
		}
		person := focusgroup.Participant{PersonaID: p.ID, Name: p.Name, Role: focusgroup.Role(p.Role)}
		switch person.Role {
		case focusgroup.RoleModerator:
			if moderator == "" {
				moderator = p.ID
			}
		case focusgroup.RoleParticipant, "":
		default:
			return nil, "", r.wrongf(field+".role", "is %q, want %s or %s", p.Role, focusgroup.RoleModerator, focusgroup.RoleParticipant)
		}
		if person.Attributes, err = attributes(r, field+".persona", p.Persona); err != nil {
			return nil, "", err
		}
		people = append(people, person)
	}
	return people, moderator, nil
}

func attributes(r *record, field string, p *persona) (focusgroup.Attributes, error) {
	var a focusgroup.Attributes
	if p == nil {
		return a, nil
	}
	a = focusgroup.Attributes{Age: int(p.Age), Occupation: p.Role, Region: p.Region, Language: p.NativeLanguage}
	if p.Age != math.Trunc(p.Age) || p.Age < 0 || p.Age > 150 {
		return a, r.wrongf(field+".age", "is %v, want whole years", p.Age)
	}
	switch p.Sex {
	case "":
	case "M":
		a.Gender = "male"
	case "F":
		a.Gender = "female"
	default:
		return a, r.wrongf(field+".sex", "is %q, want M or F", p.Sex)
	}
	return a, nil
}
