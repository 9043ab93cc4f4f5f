package partition

// Forecast is that of a Report.
func Forecast(bytes []int64) (growth, next, year int64) {
	var r Report
	r.forecast(bytes)
	return r.Growth, r.Next, r.Year
}
