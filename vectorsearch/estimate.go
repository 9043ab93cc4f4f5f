package vectorsearch

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// estimate is what the planner thinks of a month and a filter: how many rows pass, and how many are read for that.
type estimate struct{ passing, read float64 }

// estimates choose the path of a search, and not what it finds. The same filters are asked for again and again.
type estimates struct {
	mu   sync.Mutex
	rows map[string]estimate
	at   time.Time // of the oldest
}

const (
	estimateAge  = time.Minute
	maxEstimates = 10_000
)

func (e *estimates) get(key string) (estimate, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.at) > estimateAge || len(e.rows) >= maxEstimates {
		e.rows, e.at = map[string]estimate{}, time.Now()
	}
	rows, ok := e.rows[key]
	return rows, ok
}

func (e *estimates) put(key string, rows estimate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rows[key] = rows
}

// estimateKey tells estimates apart.
func (x *Index) estimateKey(s *scope, l leaf) string {
	var own args
	return x.leafName("vectors", l.month) + s.where(l, &own) + fmt.Sprint(own...)
}

// known are the estimates that need no asking, by the months' tables.
func (x *Index) known(s *scope, leaves []leaf) map[string]estimate {
	found := map[string]estimate{}
	for _, l := range leaves {
		if e, ok := x.estimates.get(x.estimateKey(s, l)); ok {
			found[x.leafName("vectors", l.month)] = e
		}
	}
	return found
}

// estimate looks at each month, by its table's name.
func (x *Index) estimate(ctx context.Context, s *scope, leaves []leaf) (map[string]estimate, error) {
	found, keys := x.known(s, leaves), map[string]string{}
	var all args
	var parts []string
	for _, l := range leaves {
		name := x.leafName("vectors", l.month)
		if _, ok := found[name]; ok {
			continue
		}
		keys[name] = x.estimateKey(s, l)
		parts = append(parts, "SELECT 1 FROM "+x.quote(name)+s.where(l, &all))
	}
	if len(parts) == 0 {
		return found, nil
	}
	var plan []byte
	err := s.conn.QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+strings.Join(parts, " UNION ALL "), all...).Scan(&plan)
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
	for _, l := range leaves {
		name := x.leafName("vectors", l.month)
		if key, ok := keys[name]; ok {
			e := found[name] // 0 where the planner sees that nothing can pass
			if e.read > 0 {
				e.read = float64(l.rows)
			}
			found[name] = e
			x.estimates.put(key, e)
		}
	}
	return found, nil
}

// planNode is a node of a plan, as EXPLAIN gives it.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Rows     float64    `json:"Plan Rows"`
	Plans    []planNode `json:"Plans"`
}

func (n planNode) read(rows map[string]estimate) {
	if n.Relation != "" {
		e := estimate{passing: max(rows[n.Relation].passing, n.Rows)}
		if strings.HasSuffix(n.Type, "Seq Scan") { // no index has the filter
			e.read = 1
		}
		rows[n.Relation] = e
	}
	for _, below := range n.Plans {
		below.read(rows)
	}
}
