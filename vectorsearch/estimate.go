package vectorsearch

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// estimates are how many rows of a month the planner thinks will pass a filter: they choose the path of a search, and not what it
// finds. The same filters are asked for again and again.
type estimates struct {
	mu   sync.Mutex
	rows map[string]float64
	at   time.Time // of the oldest
}

const (
	estimateAge  = time.Minute
	maxEstimates = 10_000
)

func (e *estimates) get(key string) (float64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.at) > estimateAge || len(e.rows) >= maxEstimates {
		e.rows, e.at = map[string]float64{}, time.Now()
	}
	rows, ok := e.rows[key]
	return rows, ok
}

func (e *estimates) put(key string, rows float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rows[key] = rows
}

// estimate is how many rows of each month pass, by its table's name.
func (x *Index) estimate(ctx context.Context, s *scope, leaves []leaf) (map[string]float64, error) {
	found, keys := map[string]float64{}, map[string]string{}
	var all args
	var parts []string
	for _, l := range leaves {
		name := x.leafName("vectors", l.month)
		var own args
		key := name + s.where(l, &own) + fmt.Sprint(own...)
		if rows, ok := x.estimates.get(key); ok {
			found[name] = rows
			continue
		}
		keys[name] = key
		parts = append(parts, "SELECT 1 FROM "+x.quote(name)+s.where(l, &all))
	}
	if len(parts) == 0 {
		return found, nil
	}
	var plan []byte
	err := x.store.Pool().QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+strings.Join(parts, " UNION ALL "), all...).Scan(&plan)
	if err != nil {
		return nil, fmt.Errorf("estimating: %w", err)
	}
	var tops []struct{ Plan planNode }
	if err := json.Unmarshal(plan, &tops); err != nil {
		return nil, fmt.Errorf("estimating: %w", err)
	}
	for _, top := range tops {
		top.Plan.read(found)
	}
	for name, key := range keys {
		x.estimates.put(key, found[name]) // 0 where the planner sees that nothing can pass
	}
	return found, nil
}

// planNode is a node of a plan, as EXPLAIN gives it.
type planNode struct {
	Relation string     `json:"Relation Name"`
	Rows     float64    `json:"Plan Rows"`
	Plans    []planNode `json:"Plans"`
}

func (n planNode) read(rows map[string]float64) {
	if n.Relation != "" {
		rows[n.Relation] = max(rows[n.Relation], n.Rows)
	}
	for _, below := range n.Plans {
		below.read(rows)
	}
}
