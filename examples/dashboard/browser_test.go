package main

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/examples/internal/browser"
	"github.com/sight-platform/hindsight/examples/internal/command"
)

// drawn is what somebody sees of a chart, in pixels.
type drawn struct {
	ID                  string
	Width, Height, Text float64
	Marks               int
}

// look finds each chart, how large its text is, and the page's width.
const look = `[...document.querySelectorAll("section svg")].map((svg) => {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return {
    id: svg.closest("section").id, width: box.width, height: box.height, marks: svg.querySelectorAll("path").length,
    text: Math.min(...[...svg.querySelectorAll("text")].map((text) => parseFloat(getComputedStyle(text).fontSize))) * box.width / view.width,
  };
})`

// A real browser draws each chart, readable on a desk and on a telephone, and has nothing to complain of.
func TestPageInABrowser(t *testing.T) {
	t.Parallel()
	ctx := browser.Open(t)
	weeks := newLog(t, command.Recordings()...)
	appendWeeks(t, weeks)
	path, _ := pageOf(t, weeks)
	for _, width := range []int64{1280, 400} {
		page := browser.Tab(t, ctx, path, width, 1000)
		charts, err := chromedp.Run(page, chromedp.Evaluate[[]drawn](look))
		require.NoError(t, err)
		require.Len(t, charts, len(panels()))
		for i, chart := range charts {
			require.Equal(t, panels()[i].ID, chart.ID)
			require.Greater(t, chart.Width, 300.0, chart)
			require.Greater(t, chart.Height, 200.0, chart)
			require.GreaterOrEqual(t, chart.Text, 9.0, chart)
			require.Greater(t, chart.Marks, 5, chart)
		}
		wide, err := chromedp.Run(page, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`))
		require.NoError(t, err)
		require.LessOrEqual(t, wide, width)
	}

	path, _ = pageOf(t, hostileLog(t))
	page := browser.Tab(t, ctx, path, 400, 1000)
	title, err := chromedp.Run(page, chromedp.Title())
	require.NoError(t, err)
	require.Equal(t, "Hindsight dashboard", title)
	people, err := chromedp.Run(page, chromedp.Evaluate[[]string](
		`[...document.querySelectorAll("#talk svg text")].map((text) => text.textContent)`))
	require.NoError(t, err)
	require.Contains(t, people, "<b>Ann</b>")
}
