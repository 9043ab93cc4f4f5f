package partition

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Report is how large a log is, and where that leads.
type Report struct {
	Months []MonthReport // up to the current one, ascending
	// Of the months that are in the database.
	Rows, Bytes int64
	// Growth is by how many bytes a month is larger than the one before, on average of the last months that are over: six, or as
	// many as there are.
	Growth int64
	// Next is what the month after the last one that is over would then take, and Year the twelve from there on.
	Next, Year int64
}

// MonthReport is a month's part of a [Report].
type MonthReport struct {
	Month    time.Time
	State    State
	Rows     int64 // an estimate before it is sealed
	Bytes    int64 // on the disk now, with indexes
	Sealed   int64 // bytes when it was sealed; 0 before
	PerEvent float64
	Archive  string // the manifest; empty where there is none
	Over     bool
}

// Report measures the log's months. It needs only the right to read.
func (m *Months) Report(ctx context.Context) (Report, error) {
	var report Report
	rows, err := m.pool.Query(ctx, m.sql["sizes"])
	if err != nil {
		return report, err
	}
	report.Months, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r MonthReport, err error) {
		err = row.Scan(&r.Month, &r.State, &r.Rows, &r.Bytes, &r.Sealed, &r.Archive, &r.Over)
		r.Month = r.Month.UTC()
		if r.Rows > 0 {
			r.PerEvent = float64(max(r.Bytes, r.Sealed)) / float64(r.Rows)
		}
		return r, err
	})
	if err != nil {
		return report, err
	}
	var over []int64
	for _, month := range report.Months {
		if month.Bytes > 0 {
			report.Rows += month.Rows
			report.Bytes += month.Bytes
		}
		if month.Over {
			over = append(over, max(month.Bytes, month.Sealed))
		}
	}
	report.forecast(over)
	return report, nil
}

// trend is how many months the forecast looks at.
const trend = 6

// forecast goes on along a straight line through the last months.
func (r *Report) forecast(bytes []int64) {
	bytes = bytes[max(len(bytes)-trend, 0):]
	n := int64(len(bytes))
	if n == 0 {
		return
	}
	var sum, slope, spread int64
	for i, b := range bytes { // twice the distance from the middle, which is a whole number
		distance := 2*int64(i) - (n - 1)
		sum += b
		slope += distance * b
		spread += distance * distance
	}
	if spread > 0 {
		r.Growth = 2 * slope / spread
	}
	middle := sum / n
	at := func(ahead int64) int64 { return max(middle+r.Growth*(n-1+2*ahead)/2, 0) }
	r.Next = at(1)
	for ahead := range int64(12) {
		r.Year += at(ahead + 1)
	}
}
