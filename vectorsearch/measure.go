package vectorsearch

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sight-platform/hindsight/eventstore"
)

// MeasureConfig of [Index.Measure]. The zero value works.
type MeasureConfig struct {
	// Sample is how many stored passages are searched by. Defaults to 50.
	Sample int
	// K of the searches. Defaults to 10.
	K int
	// EfSearch of the searches. Defaults to what K needs.
	EfSearch int
}

// Recall is how many of the exact answers searches found, for filters that let about so much pass.
type Recall struct {
	// MinShare and MaxShare bound the share of all vectors that passed the filters.
	MinShare, MaxShare float64
	Searches           int
	// ByHNSW are the searches that used an index; the others compared what passed.
	ByHNSW int
	// Wanted and Found are hits: the exact ones, and those of them that were found.
	Wanted, Found int
}

// Recall of the group: 1 is all; 1 where there was nothing to find.
func (r Recall) Recall() float64 {
	if r.Wanted == 0 {
		return 1
	}
	return float64(r.Found) / float64(r.Wanted)
}

// Measure searches by a sample of the passages, with no filter, and with those of its project, its persona and its discussion,
// as the package chooses and again exactly. It returns the recall by the share that the filters let pass, in powers of ten,
// largest first. It takes Sample times eight searches, four of them exact.
func (x *Index) Measure(ctx context.Context, config MeasureConfig) ([]Recall, error) {
	if config.Sample == 0 {
		config.Sample = 50
	}
	if config.Sample < 0 || config.Sample > 10_000 {
		return nil, invalid("MeasureConfig.Sample", fmt.Sprintf("is %d, 1 to 10,000 are allowed", config.Sample))
	}
	if err := x.check(ctx); err != nil {
		return nil, err
	}
	w, err := x.now(ctx)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, l := range w.leaves {
		total += l.rows
	}
	if total == 0 {
		return nil, nil
	}
	sample, err := x.sample(ctx, config.Sample, total)
	if err != nil {
		return nil, err
	}
	groups := make([]Recall, 5)
	for i, share := 0, 1.0; i < len(groups); i, share = i+1, share/10 {
		groups[i].MaxShare, groups[i].MinShare = share, share/10
	}
	groups[len(groups)-1].MinShare = 0
	for _, t := range sample {
		filters := []Filter{{}, {Discussions: []eventstore.StreamID{t.StreamID}}}
		if t.Project != "" {
			filters = append(filters, Filter{Projects: []string{t.Project}})
		}
		if t.Persona != "" {
			filters = append(filters, Filter{Personas: []string{t.Persona}})
		}
		for _, filter := range filters {
			q := Query{Example: t.Position, Filter: filter, K: config.K, EfSearch: config.EfSearch, AsOf: w.upTo}
			if err := x.measure(ctx, q, total, groups); err != nil {
				return nil, err
			}
		}
	}
	return groups, nil
}

// measure adds one search to the group of its share.
func (x *Index) measure(ctx context.Context, q Query, total int64, groups []Recall) error {
	chosen, err := x.Search(ctx, q)
	if err != nil {
		return err
	}
	q.Exact = true
	exact, err := x.Search(ctx, q)
	if err != nil {
		return err
	}
	at := 0
	for share := float64(exact.Candidates) / float64(total); at < len(groups)-1 && share <= groups[at].MinShare; {
		at++
	}
	group := &groups[at]
	group.Searches++
	if chosen.Path != PathExact {
		group.ByHNSW++
	}
	got := map[candidateKey]bool{}
	for _, h := range chosen.Hits {
		got[candidateKey{h.Position, h.Chunk}] = true
	}
	for _, h := range exact.Hits {
		group.Wanted++
		if got[candidateKey{h.Position, h.Chunk}] {
			group.Found++
		}
	}
	return nil
}

// sample reads passages from anywhere.
func (x *Index) sample(ctx context.Context, n int, total int64) ([]Turn, error) {
	percent := min(100, 300*float64(n)/float64(total)) // Bernoulli gives about so many: the rest is cut
	rows, err := x.store.Pool().Query(ctx, x.sql(`SELECT `+turnColumns+` FROM (SELECT * FROM {{passages}} TABLESAMPLE BERNOULLI ($1::double precision)) AS p ORDER BY md5(p.position::text) LIMIT $2`), percent, n)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanTurn)
}
