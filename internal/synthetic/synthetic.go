package synthetic

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/focusgroup"
)

// Config of a [Log]. The zero value is two years of a middling platform.
type Config struct {
	Seed     uint64
	Personas int       // Defaults to 1,000.
	Users    int       // Defaults to a persona in 20.
	Projects int       // Defaults to a persona in 10.
	Months   int       // Defaults to 24.
	From     time.Time // Defaults to 2023-01-01 in UTC.
	Events   int       // About how many there are. Defaults to 200 a persona.
}

func (c Config) withDefaults() Config {
	c.Personas = cmp.Or(c.Personas, 1000)
	c.Users = cmp.Or(c.Users, max(c.Personas/20, 2))
	c.Projects = cmp.Or(c.Projects, max(c.Personas/10, 2))
	c.Months = cmp.Or(c.Months, 24)
	c.Events = cmp.Or(c.Events, 200*c.Personas)
	if c.From.IsZero() {
		c.From = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return c
}

// Log is a source of events.
type Log struct{ config Config }

// New makes a source of events.
func New(config Config) *Log { return &Log{config.withDefaults()} }

// Source is an [eventstore.ImportSource] without bookmarks: a rerun is recognised by the events' versions and ids.
func (l *Log) Source(string) iter.Seq2[eventstore.Imported, error] {
	return func(yield func(eventstore.Imported, error) bool) {
		for event := range l.Events() {
			if !yield(event, nil) {
				return
			}
		}
	}
}

// Events yields the events in the order in which they were recorded.
func (l *Log) Events() iter.Seq[eventstore.Imported] {
	return func(yield func(eventstore.Imported) bool) {
		p := newPlatform(l.config)
		until := p.From.AddDate(0, p.Months, 0)
		days := int(until.Sub(p.From) / (24 * time.Hour))
		total := 0.0
		for day := range days {
			total += p.weight(day, days)
		}
		made := 0.0
		for day := range days {
			p.today = p.From.AddDate(0, 0, day)
			made += float64(p.Events) * p.weight(day, days) / total
			p.introduce()
			p.live(int(made))
			if !p.flush(p.today.AddDate(0, 0, 1), yield) {
				return
			}
		}
		p.flush(time.Time{}, yield)
	}
}

// weight is the share of a day: quiet weekends, and a platform that grows.
func (c Config) weight(day, days int) float64 {
	weight := 0.5 + float64(day)/float64(days)
	switch c.From.AddDate(0, 0, day).Weekday() {
	case time.Saturday:
		return weight * 0.35
	case time.Sunday:
		return weight * 0.2
	}
	return weight
}

// platform is what is known at a day of the log.
type platform struct {
	Config
	random      *rand.Rand
	today       time.Time
	users       []user
	projects    []project
	personas    []persona
	texts       []string
	made        int // events so far
	discussions int
	surveys     int
	held        []eventstore.Imported // made, and not recorded yet
}

type user struct {
	id      string
	arrives time.Time
	known   bool // has an event of its own
}

type project struct {
	id       string
	owner    int
	begins   time.Time
	late     time.Duration // between its beginning and its event
	known    bool
	personas []int
}

type persona struct {
	id      string
	project int
	begins  time.Time
	ends    time.Time     // who takes part in nothing any more
	late    time.Duration // between its beginning and its event
	known   bool
	created bool
	version eventstore.Version
	name    string
	focusgroup.Attributes
}

func newPlatform(config Config) *platform {
	p := &platform{Config: config, random: rand.New(rand.NewPCG(config.Seed, 0x68696e64736967))} //nolint:gosec // it must be foreseeable
	p.texts = texts(p.random)
	span := p.From.AddDate(0, p.Months, 0).Sub(p.From)
	within := func(share float64) time.Duration { return time.Duration(p.random.Float64() * share * float64(span)) }
	for i := range p.Users {
		p.users = append(p.users, user{id: fmt.Sprintf("u%d", i), arrives: p.From, known: p.random.IntN(20) > 0})
		if i > 0 {
			p.users[i].arrives = p.From.Add(within(0.8))
		}
	}
	for i := range p.Projects {
		owner := p.random.IntN(p.Users)
		if i == 0 {
			owner = 0
		}
		begins := p.users[owner].arrives
		if i > 0 {
			begins = begins.Add(within(0.1))
		}
		p.projects = append(p.projects, project{id: fmt.Sprintf("p%d", i), owner: owner, begins: begins, late: p.delay(5), known: p.random.IntN(20) > 0})
	}
	for i := range p.Personas {
		p.addPersona(i)
	}
	return p
}

func (p *platform) addPersona(i int) {
	of := p.random.IntN(p.Projects)
	if i < 4 { // there is someone to talk to from the first day on
		of = 0
	}
	a := persona{id: fmt.Sprintf("a%d", i), project: of, name: pick(p, names()), known: i < 4 || p.random.IntN(50) > 0}
	a.begins = p.projects[of].begins
	a.ends = a.begins.AddDate(100, 0, 0)
	if i >= 4 {
		a.begins = a.begins.Add(time.Duration(p.random.ExpFloat64() * float64(14*24*time.Hour)))
		a.late = p.delay(10)
		if p.random.IntN(5) > 0 {
			a.ends = a.begins.Add(time.Duration((1 + p.random.ExpFloat64()*10) * float64(7*24*time.Hour)))
		}
	}
	p.describe(&a)
	p.personas = append(p.personas, a)
	p.projects[of].personas = append(p.projects[of].personas, i)
}

// delay is up to ten days, for one in n; mostly nothing.
func (p *platform) delay(n int) time.Duration {
	if p.random.IntN(n) > 0 {
		return 0
	}
	return time.Duration(p.random.Int64N(int64(10 * 24 * time.Hour)))
}

// describe gives a persona attributes; one in six of them is unknown.
func (p *platform) describe(a *persona) {
	known := func(list []string) string {
		if p.random.IntN(6) == 0 {
			return ""
		}
		return pick(p, list)
	}
	a.Attributes = focusgroup.Attributes{
		Gender: known([]string{"female", "male", "other"}), Occupation: known(occupations()), SegmentID: known([]string{"s1", "s2", "s3", "s4"}),
		Region: known([]string{"Kraków", "Warszawa", "Gdańsk", "São Paulo", "Köln"}), Language: known([]string{"pl", "en", "pt", "de"}),
	}
	if p.random.IntN(6) > 0 {
		a.Age = 16 + p.random.IntN(65)
	}
}

func pick[T any](p *platform, list []T) T { return list[p.random.IntN(len(list))] }

// record keeps an event until the day on which it is recorded. It cuts the times to what the database keeps.
func (p *platform) record(stream eventstore.StreamID, version eventstore.Version, occurred, recorded time.Time, data any) {
	occurred, recorded = occurred.Truncate(time.Microsecond), recorded.Truncate(time.Microsecond)
	id := uuid.UUID{6: 0x70, 8: 0x80}                                   // version 7
	binary.BigEndian.PutUint16(id[:], uint16(recorded.UnixMilli()>>32)) //nolint:gosec // the upper 16 of 48 bits
	binary.BigEndian.PutUint32(id[2:], uint32(recorded.UnixMilli()))    //nolint:gosec // the lower 32 bits
	binary.BigEndian.PutUint64(id[8:], p.random.Uint64()>>2|1<<63)
	id[7] = byte(p.made)
	p.made++
	p.held = append(p.held, eventstore.Imported{
		StreamID: stream, Version: version, RecordedAt: recorded, Event: eventstore.Event{ID: id, Data: data, OccurredAt: occurred},
	})
}

// flush yields what is recorded before a time, all of it for none.
func (p *platform) flush(until time.Time, yield func(eventstore.Imported) bool) bool {
	type place struct{ at, index int64 }
	order, kept := make([]place, 0, len(p.held)), 0
	for i := range p.held {
		if until.IsZero() || p.held[i].RecordedAt.Before(until) {
			order = append(order, place{p.held[i].RecordedAt.UnixMicro(), int64(i)})
		}
	}
	slices.SortFunc(order, func(a, b place) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.index, b.index)) })
	for _, o := range order {
		if !yield(p.held[o.index]) {
			return false
		}
		p.held[o.index].StreamID = ""
	}
	for _, event := range p.held {
		if event.StreamID != "" {
			p.held[kept] = event
			kept++
		}
	}
	clear(p.held[kept:])
	p.held = p.held[:kept]
	return true
}
