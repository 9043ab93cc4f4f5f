// Package browser looks at an example's page in a real browser, as its reader would.
package browser

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Open starts a browser, headless. Without one on the machine the test is skipped, and fails on CI.
func Open(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for name := range strings.SplitSeq("chromium chromium-browser google-chrome google-chrome-stable chrome", " ") {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	switch {
	case path == "" && os.Getenv("CI") != "":
		t.Fatal("no browser is on this machine; make setup-browser installs one")
	case path == "":
		t.Skip("no browser is on this machine; make setup-browser installs one")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute) // it is needed in cleanups
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	check(t, chromedp.Do(ctx))
	t.Cleanup(func() { check(t, chromedp.Cancel(ctx)) })
	return ctx
}

// Tab opens a page of so many pixels. In the end the test fails if the page has complained of anything.
func Tab(t *testing.T, browser context.Context, path string, width, height int64) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	console := chromedp.Console(ctx)
	check(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, height), chromedp.Navigate("file://"+path)))
	t.Cleanup(func() {
		check(t, chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](`console.log("the end")`)))
		for message, err := range console {
			check(t, err)
			if message.Text == "the end" {
				break
			}
			t.Errorf("the page complains: %v", message)
		}
	})
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
