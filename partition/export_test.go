package partition

// SetRows makes the parts and frames of archives small.
func (m *Months) SetRows(part int64, frame int) { m.rows = partRows{part, frame} }

// Forecast is that of a Report.
func Forecast(bytes []int64) (growth, next, year int64) {
	var r Report
	r.forecast(bytes)
	return r.Growth, r.Next, r.Year
}
