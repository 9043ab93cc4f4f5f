package synthetic

import (
	"fmt"
	"time"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// introduce makes the events of the users, projects and personas who begin today.
func (p *platform) introduce() {
	tomorrow := p.today.AddDate(0, 0, 1)
	begins := func(at time.Time) bool { return !at.Before(p.today) && at.Before(tomorrow) }
	for i, u := range p.users {
		if u.known && begins(u.arrives) {
			data := focusgroup.UserRegistered{UserID: u.id, Name: pick(p, names()), Company: fmt.Sprintf("Firma %d", i%7), Country: pick(p, []string{"PL", "DE", "BR", ""})}
			p.record(focusgroup.UserStream(u.id), 1, u.arrives, u.arrives, data)
		}
	}
	for i, g := range p.projects {
		if g.known && begins(g.begins) {
			data := focusgroup.ProjectCreated{ProjectID: g.id, UserID: p.users[g.owner].id, Name: fmt.Sprintf("Project %d", i), Industry: pick(p, []string{"food", "banking", ""})}
			p.record(focusgroup.ProjectStream(g.id), 1, g.begins, g.begins.Add(g.late), data)
		}
	}
	for i := range p.personas {
		a := &p.personas[i]
		switch {
		case !a.known:
		case begins(a.begins):
			a.version, a.created = 1, true
			p.record(focusgroup.PersonaStream(a.id), 1, a.begins, a.begins.Add(a.late), focusgroup.PersonaCreated{
				PersonaID: a.id, ProjectID: p.projects[a.project].id, UserID: p.ownerOf(a.project), Name: a.name, Attributes: a.Attributes,
				DurationSeconds: p.seconds(300), Usage: p.usage(5),
			})
		case a.created && a.late == 0 && p.random.IntN(60) == 0:
			p.edit(a)
		}
	}
}

// edit changes a persona; now and then it moves to another project, or nothing but its description changes.
func (p *platform) edit(a *persona) {
	switch p.random.IntN(10) {
	case 0:
		a.project = p.random.IntN(p.Projects)
	case 1:
	default:
		p.describe(a)
	}
	at := p.today.Add(time.Duration(p.random.Int64N(int64(24 * time.Hour))))
	a.version++
	p.record(focusgroup.PersonaStream(a.id), a.version, at.Add(-p.delay(4)), at, focusgroup.PersonaEdited{
		PersonaID: a.id, ProjectID: p.projects[a.project].id, UserID: p.ownerOf(a.project), Name: a.name, Description: pick(p, p.texts),
		Attributes: a.Attributes, DurationSeconds: p.seconds(120), Usage: p.usage(2),
	})
}

func (p *platform) ownerOf(project int) string { return p.users[p.projects[project].owner].id }

// live makes discussions and surveys until there are so many events.
func (p *platform) live(until int) {
	for p.made < until {
		project, personas := p.group()
		at := p.today.Add(7*time.Hour + time.Duration(p.random.Int64N(int64(17*time.Hour))))
		if p.random.IntN(4) > 0 {
			p.discuss(project, personas, at)
		} else {
			p.survey(project, personas, at)
		}
	}
}

// group chooses a project with personas who still take part, the first one where chance finds none.
func (p *platform) group() (int, []int) {
	for range 8 {
		project := p.random.IntN(p.Projects)
		var active []int
		for _, i := range p.projects[project].personas {
			if a := &p.personas[i]; !a.begins.After(p.today) && a.ends.After(p.today) {
				active = append(active, i)
			}
		}
		if len(active) < 2 {
			continue
		}
		p.random.Shuffle(len(active), func(i, j int) { active[i], active[j] = active[j], active[i] })
		return project, active[:min(len(active), 2+p.random.IntN(6))]
	}
	return 0, p.projects[0].personas[:min(4, len(p.projects[0].personas))]
}

func (p *platform) survey(project int, personas []int, at time.Time) {
	p.surveys++
	id := fmt.Sprintf("q%d", p.surveys)
	late := p.delay(20)
	for i, persona := range personas {
		rating := float64(p.random.IntN(11))
		data := focusgroup.SurveyCompleted{
			SurveyID: id, ProjectID: p.projects[project].id, UserID: p.ownerOf(project), PersonaID: p.personas[persona].id,
			DurationSeconds: p.seconds(600), Usage: p.usage(3),
			Answers: []focusgroup.SurveyAnswer{
				{Question: "Which?", Type: focusgroup.SingleChoice, Choices: []string{pick(p, occupations())}},
				{Question: "Which of these?", Type: focusgroup.MultipleChoice, Choices: occupations()[:p.random.IntN(4)]},
				{Question: "How much?", Type: focusgroup.Rating, Rating: &rating, ScaleMax: 10},
				{Question: "Why?", Type: focusgroup.OpenText, Text: pick(p, p.texts)},
			}[:1+p.random.IntN(4)],
		}
		at = at.Add(time.Duration(p.random.Int64N(int64(5 * time.Minute))))
		p.record(focusgroup.SurveyStream(id), eventstore.Version(i+1), at, at.Add(late), data)
	}
}

// talk is a discussion that is being made.
type talk struct {
	stream        eventstore.StreamID
	version       eventstore.Version
	at            time.Time
	late          time.Duration
	project, user string
	question      string
}

func (p *platform) say(t *talk, data any) {
	t.version++
	p.record(t.stream, t.version, t.at, t.at.Add(t.late), data)
}

func (p *platform) discuss(project int, personas []int, at time.Time) {
	p.discussions++
	t := &talk{stream: eventstore.StreamID(fmt.Sprintf("discussion-%d", p.discussions)), at: at, late: p.delay(25), project: p.projects[project].id, user: p.ownerOf(project)}
	started := focusgroup.DiscussionStarted{ProjectID: t.project, UserID: t.user, ModeratorID: "m1", Title: "On " + pick(p, occupations()), Language: "pl"}
	if p.random.IntN(40) == 0 { // of no project at all
		started.ProjectID, t.project = "", ""
	}
	if p.random.IntN(10) == 0 { // the turns leave it to their stream
		t.project = ""
	}
	started.Questions = questions()[:1+p.random.IntN(len(questions()))]
	started.Participants = append(started.Participants, focusgroup.Participant{PersonaID: "m1", Name: "Moderator", Role: focusgroup.RoleModerator})
	for _, i := range personas {
		started.Participants = append(started.Participants, focusgroup.Participant{PersonaID: p.personas[i].id, Name: p.personas[i].name, Attributes: p.personas[i].Attributes})
	}
	p.say(t, started)
	for _, t.question = range started.Questions {
		p.ask(t, personas)
	}
	ended := focusgroup.DiscussionEnded{ProjectID: t.project, UserID: t.user, Reason: "completed", Usage: p.usage(1)}
	switch p.random.IntN(10) {
	case 0:
		return // never
	case 1:
		ended.Reason = "cancelled"
	case 2:
		ended.Reason = ""
	case 3:
		ended.DurationSeconds = at.Sub(t.at).Abs().Seconds()
	}
	p.say(t, ended)
}

// ask is one question: the moderator, most participants, and some who discuss.
func (p *platform) ask(t *talk, personas []int) {
	turn := focusgroup.Turn{ProjectID: t.project, UserID: t.user, ModeratorID: "m1", PersonaName: "Moderator", Role: focusgroup.RoleModerator, Question: t.question, Text: t.question}
	p.say(t, focusgroup.Followup(turn))
	for _, i := range personas {
		turn.Role, turn.PersonaID, turn.PersonaName = "", p.personas[i].id, p.personas[i].name
		if p.random.IntN(30) == 0 { // a guest, of whom nothing else is known
			turn.PersonaID, turn.PersonaName = fmt.Sprintf("guest%d", p.random.IntN(20)), ""
		}
		turn.Text, turn.DurationSeconds, turn.Usage = pick(p, p.texts), p.seconds(60), p.usage(2)
		t.at = t.at.Add(time.Duration(1+p.random.Int64N(90_000)) * time.Millisecond)
		switch p.random.IntN(8) {
		case 0:
			continue
		case 1, 2:
			p.say(t, focusgroup.Followup(turn))
		default:
			p.say(t, focusgroup.Response(turn))
		}
	}
}

// seconds is a duration with this mean; of one in four it is unknown.
func (p *platform) seconds(mean float64) float64 {
	if p.random.IntN(4) == 0 {
		return 0
	}
	return float64(int(p.random.ExpFloat64()*mean*1000)) / 1000
}

// usage of a language model, for one in n none.
func (p *platform) usage(n int) focusgroup.Usage {
	if p.random.IntN(n+1) == 0 {
		return focusgroup.Usage{}
	}
	u := focusgroup.Usage{TokensIn: 200 + p.random.Int64N(4000), TokensOut: 20 + p.random.Int64N(600)}
	price := 0.0
	switch p.random.IntN(3) {
	case 0:
		u.Model, price = "large", 15e-6
	case 1:
		u.Model, price = "middle", 3e-6
	default:
		u.Model, price = "small", 0.25e-6
	}
	u.CostUSD = price*float64(u.TokensIn) + 5*price*float64(u.TokensOut)
	return u
}
