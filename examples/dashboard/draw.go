package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-analyze/charts"
)

// A chart is drawn as wide as its card is on a desk and on a telephone alike, so that its text is as large as the page's.
const (
	width  = 380
	height = 270
)

// theme is the page's light one, on no background. page.css turns its ink around in the dark, by these very colours.
func theme() charts.ColorPalette {
	return charts.MakeTheme(charts.ThemeOption{
		AxisStrokeColor:    charts.ParseColor("#98a2b3"),
		AxisSplitLineColor: charts.ParseColor("#e2e5ea"),
		BackgroundColor:    charts.ColorTransparent,
		TextColor:          charts.ParseColor("#475467"),
		SeriesColors: []charts.Color{
			charts.ParseColor("#4c78d8"), charts.ParseColor("#e0803a"), charts.ParseColor("#2a9d8f"), charts.ParseColor("#9b6bd6"),
			charts.ParseColor("#c9a227"), charts.ParseColor("#d6547a"),
		},
	})
}

func small() charts.FontStyle { return charts.FontStyle{FontSize: 8.5} } // points: 11 pixels

// legend names the series, if there is more than one without a name.
func legend(names []string) charts.LegendOption {
	var shown []string
	for _, name := range names {
		shown = append(shown, short(name, 24))
	}
	return charts.LegendOption{SeriesNames: shown, FontStyle: small(), Symbol: charts.SymbolDiamond, Show: charts.Ptr(names[0] != "")}
}

// svg draws on a canvas.
func svg(height int, draw func(*charts.Painter) error) ([]byte, error) {
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: width, Height: height, Theme: theme()})
	if err := draw(p); err != nil {
		return nil, err
	}
	return p.Bytes()
}

func drawActive(t table) ([]byte, error) {
	labels, places := t.days()
	values := make([]float64, len(labels))
	for i, n := range t.column("active_personas") {
		values[places[i]] = n
	}
	return drawDays(labels, []string{""}, [][]float64{values}, nil)
}

func drawCost(t table) ([]byte, error) { return drawModels(t, t.column("usd"), dollars) }

func drawTokens(t table) ([]byte, error) {
	tokens := t.column("tokens_in")
	for i, out := range t.column("tokens_out") {
		tokens[i] += out
	}
	return drawModels(t, tokens, nil)
}

// drawModels stacks the models' values of each day.
func drawModels(t table, values []float64, format charts.ValueFormatter) ([]byte, error) {
	labels, places := t.days()
	var models []string
	var series [][]float64
	for i, row := range t.rows {
		model := row[1].(string)
		if model == "" {
			model = "(unknown)"
		}
		n := slices.Index(models, model)
		if n < 0 {
			n = len(models)
			models, series = append(models, model), append(series, make([]float64, len(labels)))
		}
		series[n][places[i]] = values[i]
	}
	return drawDays(labels, models, series, format)
}

// drawDays draws a bar a day, of one or more parts.
func drawDays(labels, names []string, values [][]float64, format charts.ValueFormatter) ([]byte, error) {
	option := charts.NewBarChartOptionWithData(values)
	option.Theme = theme()
	option.Padding = charts.NewBox(4, 10, 8, 4)
	option.StackSeries = charts.Ptr(true)
	option.BarSize = 0.8
	option.CategoryAxis = charts.CategoryAxisOption{Labels: labels, LabelFontStyle: small(), LabelCount: min(len(labels), 5)}
	option.ValueAxis = []charts.ValueAxisOption{{Min: charts.Ptr(0.0), LabelFontStyle: small(), ValueFormatter: format}}
	option.Legend = legend(names)
	return svg(height, func(p *charts.Painter) error { return p.BarChart(option) })
}

func drawHealth(t table) ([]byte, error) {
	names := []string{"score", "completion", "engagement", "recency"}
	var values [][]float64
	for _, name := range names {
		values = append(values, t.column(name))
	}
	var labels []string
	for _, row := range t.rows {
		labels = append(labels, short(row[0].(string), 20))
	}
	return drawBars(labels, names, values, charts.Ptr(1.0), 52)
}

func drawTalk(t table) ([]byte, error) {
	seen := map[any]int{}
	for _, row := range t.rows {
		seen[row[0]]++
	}
	var labels []string
	for _, row := range t.rows {
		label := row[0].(string)
		if seen[label] > 1 { // namesakes
			label = short(label, 10) + " " + short(row[1].(string), 9)
		}
		labels = append(labels, short(label, 20))
	}
	return drawBars(labels, []string{""}, [][]float64{t.column("seconds")}, nil, 22)
}

// drawBars draws bars that lie, the first row's on top.
func drawBars(labels, names []string, values [][]float64, most *float64, apart int) ([]byte, error) {
	labels = slices.Clone(labels)
	slices.Reverse(labels) // charts draws from the bottom up
	for _, series := range values {
		slices.Reverse(series)
	}
	option := charts.NewBarChartOptionWithData(values)
	option.Horizontal = true
	option.Theme = theme()
	option.Padding = charts.NewBox(12, 4, 14, 4)
	// A browser's letters may be wider than those that charts measures: off the axis with them.
	option.CategoryAxis = charts.CategoryAxisOption{Labels: labels, LabelFontStyle: small(), LabelOffset: charts.OffsetInt{Left: -8}}
	option.ValueAxis = []charts.ValueAxisOption{{Min: charts.Ptr(0.0), Max: most, LabelFontStyle: small()}}
	option.Legend = legend(names)
	return svg(max(height, 70+apart*len(labels)), func(p *charts.Painter) error { return p.BarChart(option) })
}

// drawCohorts draws a row a cohort, or nothing while there is but its first week to show.
func drawCohorts(t table) ([]byte, error) {
	retention := t.column("retention")
	var labels, weeks []string
	var values [][]float64
	var week time.Time
	for i, row := range t.rows {
		if at := row[0].(time.Time); !at.Equal(week) {
			week = at
			labels = append(labels, fmt.Sprintf("%s (%s)", at.Format("2 Jan"), text(row[1])))
			values = append(values, nil)
		}
		last := len(values) - 1
		values[last] = append(values[last], 100*retention[i])
		if len(values[last]) > len(weeks) {
			weeks = append(weeks, strconv.Itoa(len(weeks)))
		}
	}
	if len(weeks) < 2 {
		return nil, nil
	}
	for i := range values { // weeks that have not ended stay blank
		for len(values[i]) < len(weeks) {
			values[i] = append(values[i], charts.GetNullValue())
		}
	}
	option := charts.NewHeatMapOptionWithData(values)
	option.Theme = theme().WithSeriesColors([]charts.Color{charts.ParseColor("#6289f0")}).WithAxisSplitLineColor(charts.ColorTransparent)
	option.Padding = charts.NewBoxEqual(4)
	option.XAxis = charts.HeatMapAxis{
		Title: "weeks later", TitleFontStyle: small(), Labels: weeks, LabelFontStyle: small(), LabelCount: len(weeks),
	}
	option.YAxis = charts.HeatMapAxis{Labels: labels, LabelFontStyle: small(), LabelCount: len(labels)}
	option.ScaleMinValue, option.ScaleMaxValue = charts.Ptr(-40.0), charts.Ptr(100.0) // 0 is no white
	option.ValuesLabel = charts.SeriesLabel{
		Show: charts.Ptr(true), ValueFormatter: whole,
		Distance: 1, FontStyle: charts.FontStyle{FontSize: 7.5, FontColor: charts.ParseColor("#1d2331")}, // page.css centres this ink
	}
	return svg(max(height, 70+22*len(labels)), func(p *charts.Painter) error { return p.HeatMapChart(option) })
}

func whole(value float64) string { return strconv.FormatFloat(value, 'f', 0, 64) }

func dollars(value float64) string { return fmt.Sprintf("%.10g", value) } // 0.015, not 0.015000000000000001

// short is a name that leaves room for its bar; the table has it whole.
func short(name string, most int) string {
	if letters := []rune(name); len(letters) > most {
		return string(letters[:most-1]) + "…"
	}
	return name
}
