package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// clausesOfTheLog hold for a store with a pool: the global order, races, and errors that would abort a transaction.
func clausesOfTheLog() []namedClause {
	return []namedClause{
		{"the log holds every event once, in the order of positions", func(c *clause) { c.orderOfPositions() }},
		{"the log goes on after a position", func(c *clause) {
			c.appendEach(c.id, 8)
			all := c.all(0, eventstore.Filter{})
			c.Equal(all[3:], c.all(all[2].Position, eventstore.Filter{}))
			c.Empty(c.all(all[7].Position, eventstore.Filter{}))
		}},
		{"a filter chooses by category, project, type and time", func(c *clause) { c.filters() }},
		{"pages with a cursor give the log whole", func(c *clause) { c.pages() }},
		{"an empty page leads on to what is appended later", func(c *clause) {
			page, err := c.store.Page(c.ctx, eventstore.PageQuery{})
			c.NoError(err)
			c.Empty(page.Events)
			c.append(c.id, eventstore.NoStream, said{Text: "a"})
			page, err = c.store.Page(c.ctx, eventstore.PageQuery{After: page.Next})
			c.NoError(err)
			c.Len(page.Events, 1)
			c.False(page.More)
			again, err := c.store.Page(c.ctx, eventstore.PageQuery{After: page.Next})
			c.NoError(err)
			c.Equal(page.Next, again.Next)
		}},
		{"follow yields what is there and what comes, until its context ends", func(c *clause) { c.follows() }},
		{"of racing appends at one version exactly one wins", func(c *clause) { c.race() }},
		{"an event id is taken once", func(c *clause) {
			id := uuid.Must(uuid.NewV7())
			c.append(c.id, eventstore.NoStream, eventstore.Event{ID: id, Data: said{Text: "a"}})
			_, err := c.store.Append(c.ctx, eventstore.NewStreamID("discussion"), eventstore.NoStream, eventstore.Event{ID: id, Data: said{Text: "b"}})
			c.ErrorIs(err, eventstore.ErrDuplicateID)
			c.Len(c.all(0, eventstore.Filter{}), 1)
		}},
		{"a transaction's events and rows commit together or not at all", func(c *clause) { c.transactions() }},
		{"a transaction shows its own events in their stream, but not in the log", func(c *clause) {
			c.inTx(pgx.TxOptions{}, func(store *eventstore.Store, _ pgx.Tx) {
				_, err := store.Append(c.ctx, c.id, eventstore.NoStream, said{Text: "mine"})
				c.NoError(err)
				c.Len(Collect(c.t, store.Stream(c.ctx, c.id, 0)), 1)
				c.Empty(Collect(c.t, store.All(c.ctx, 0, eventstore.Filter{})))
			})
			c.Len(c.all(0, eventstore.Filter{}), 1)
		}},
		{"a repeatable read transaction reads the log up to the stored settled position", func(c *clause) {
			c.appendEach(c.id, 3)
			settled, err := c.store.Settle(c.ctx)
			c.NoError(err)
			c.appendEach(c.id, 2)
			c.inTx(pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(store *eventstore.Store, _ pgx.Tx) {
				log := Collect(c.t, store.All(c.ctx, 0, eventstore.Filter{}))
				c.Len(log, 3)
				c.Equal(settled, log[2].Position)
				c.Len(Collect(c.t, store.Stream(c.ctx, c.id, 0)), 5)
			})
		}},
	}
}

func (c *clause) inTx(options pgx.TxOptions, f func(*eventstore.Store, pgx.Tx)) {
	c.t.Helper()
	c.NoError(pgx.BeginTxFunc(c.ctx, c.log.Pool, options, func(tx pgx.Tx) error {
		f(c.log.WithTx(tx), tx)
		return nil
	}))
}

func (c *clause) orderOfPositions() {
	var want []eventstore.Position
	for i := range 10 {
		receipt := c.append(eventstore.StreamID(fmt.Sprintf("discussion-%d", i%3)), eventstore.Any, said{Text: "a"}, said{Text: "b"})
		want = append(want, receipt.Positions...)
	}
	var got []eventstore.Position
	for _, event := range c.all(0, eventstore.Filter{}) {
		got = append(got, event.Position)
	}
	c.Equal(want, got)
	settled, err := c.store.Settled(c.ctx)
	c.NoError(err)
	c.Equal(want[len(want)-1], settled)
}

func (c *clause) filters() {
	other := eventstore.NewStreamID("persona")
	c.append(c.id, eventstore.NoStream, said{Project: "p1", Text: "1"}, asked{Text: "2"})
	c.append(other, eventstore.NoStream, said{Text: "3"})
	third := c.append("discussion2-x", eventstore.NoStream, said{Project: "p2", Text: "4"})
	c.append(c.id, eventstore.Any, eventstore.Event{Data: said{Text: "5"}, OccurredAt: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)})
	for _, f := range []struct {
		filter eventstore.Filter
		want   string
	}{
		{eventstore.Filter{}, "12345"},
		{eventstore.Filter{Categories: []string{"discussion"}}, "125"},
		{eventstore.Filter{Categories: []string{"discussion2", "persona"}}, "34"},
		{eventstore.Filter{Project: "p1"}, "125"},
		{eventstore.Filter{Types: []string{"asked"}}, "2"},
		{eventstore.Filter{Types: []string{"said"}, Project: "p1"}, "15"},
		{eventstore.Filter{Recorded: eventstore.TimeRange{From: third.RecordedAt}}, "45"},
		{eventstore.Filter{Recorded: eventstore.TimeRange{Until: third.RecordedAt}}, "123"},
		{eventstore.Filter{Occurred: eventstore.TimeRange{Until: third.RecordedAt}}, "1235"},
		{eventstore.Filter{Project: "'; DROP TABLE events; --"}, ""},
	} {
		got := ""
		for _, event := range c.all(0, f.filter) {
			switch data := event.Data.(type) {
			case said:
				got += data.Text
			case asked:
				got += data.Text
			}
		}
		c.Equal(f.want, got, "%+v", f.filter)
	}
}

func (c *clause) pages() {
	c.appendEach(c.id, 10)
	var got []eventstore.Recorded
	query := eventstore.PageQuery{Limit: 4}
	for {
		page, err := c.store.Page(c.ctx, query)
		c.NoError(err)
		c.LessOrEqual(len(page.Events), 4)
		got = append(got, page.Events...)
		query.After = page.Next
		if !page.More {
			break
		}
	}
	c.Equal(c.all(0, eventstore.Filter{}), got)
}

func (c *clause) follows() {
	c.appendEach(c.id, 4)
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var seen []eventstore.Version
	var last error
	for event, err := range c.store.Follow(ctx, 0, eventstore.Filter{Categories: []string{"discussion"}}) {
		if err != nil {
			last = err
			continue
		}
		if seen = append(seen, event.Version); event.Version < 8 {
			if event.Version >= 4 {
				c.append(c.id, eventstore.AtVersion(event.Version), said{Text: "next"})
			}
		} else {
			cancel()
		}
	}
	c.Equal([]eventstore.Version{1, 2, 3, 4, 5, 6, 7, 8}, seen)
	c.ErrorIs(last, context.Canceled)
}

func (c *clause) race() {
	const writers = 8
	for round := range eventstore.Version(5) {
		results := make([]error, writers)
		var group sync.WaitGroup
		for i := range writers {
			group.Go(func() {
				_, results[i] = c.store.Append(c.ctx, c.id, eventstore.AtVersion(round), said{Text: fmt.Sprint(i)})
			})
		}
		group.Wait()
		won := 0
		for _, err := range results {
			if err == nil {
				won++
				continue
			}
			c.conflict(err, eventstore.AtVersion(round), round+1)
		}
		c.Equal(1, won)
	}
	c.Len(c.stream(c.id), 5)
}

func (c *clause) transactions() {
	_, err := c.log.Pool.Exec(c.ctx, `CREATE TABLE `+c.log.Schema()+`.orders (id text PRIMARY KEY)`)
	c.NoError(err)
	undecided := errors.New("rolled back")
	attempt := func(end error) {
		c.ErrorIs(pgx.BeginFunc(c.ctx, c.log.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(c.ctx, `INSERT INTO `+c.log.Schema()+`.orders VALUES ('o1')`); err != nil {
				return err
			}
			for range 3 { // several appends share one fence
				if _, err := c.log.WithTx(tx).Append(c.ctx, c.id, eventstore.Any, said{Text: "ordered"}); err != nil {
					return err
				}
			}
			return end
		}), end)
	}
	rows := func() (n int) {
		c.NoError(c.log.Pool.QueryRow(c.ctx, `SELECT count(*) FROM `+c.log.Schema()+`.orders`).Scan(&n))
		return n
	}
	attempt(undecided)
	c.Zero(rows())
	c.Empty(c.stream(c.id))
	attempt(nil)
	c.Equal(1, rows())
	c.Equal([]eventstore.Version{1, 2, 3}, versionsOf(c.stream(c.id)))
	c.Len(c.all(0, eventstore.Filter{}), 3)
}
