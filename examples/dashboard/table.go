package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-analyze/charts"
	"github.com/jackc/pgx/v5"
)

// table is what a query returns: dates, texts, whole numbers, doubles, and nil for NULL.
type table struct {
	Columns []string
	rows    [][]any
}

func query(ctx context.Context, tx pgx.Tx, sql string) (table, error) {
	var t table
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return t, err
	}
	t.rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	for _, column := range rows.FieldDescriptions() {
		t.Columns = append(t.Columns, column.Name)
	}
	return t, err
}

// Rows are the rows as text.
func (t table) Rows() [][]string {
	rows := make([][]string, len(t.rows))
	for i, row := range t.rows {
		for _, value := range row {
			rows[i] = append(rows[i], text(value))
		}
	}
	return rows
}

func text(value any) string {
	switch v := value.(type) {
	case nil:
		return "–"
	case time.Time:
		return v.Format(time.DateOnly)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(value)
}

// number is a value to draw; what is unknown is left out.
func number(value any) float64 {
	switch v := value.(type) {
	case int64:
		return float64(v)
	case int32:
		return float64(v)
	case float64:
		return v
	}
	return charts.GetNullValue()
}

// column is a column's values to draw.
func (t table) column(name string) []float64 {
	values := make([]float64, len(t.rows))
	for i, row := range t.rows {
		values[i] = number(row[slices.Index(t.Columns, name)])
	}
	return values
}

// days are the labels of the days from the first row's date to the last's, and each row's place among them. Days without a row
// have a place too: a chart that leaves them out lies about time.
func (t table) days() (labels []string, places []int) {
	first := t.rows[0][0].(time.Time)
	for _, row := range t.rows {
		place := int(math.Round(row[0].(time.Time).Sub(first).Hours() / 24))
		places = append(places, place)
		for len(labels) <= place {
			labels = append(labels, first.AddDate(0, 0, len(labels)).Format("2 Jan"))
		}
	}
	return labels, places
}
