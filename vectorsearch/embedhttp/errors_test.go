package embedhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/vectorsearch"
)

// kindOf names the kind of an error as the documentation of Embedder lists them.
func kindOf(err error) string {
	var limit *vectorsearch.RateLimitError
	var text *vectorsearch.TextError
	var answer *vectorsearch.VectorError
	var kinds []string
	if errors.As(err, &limit) {
		kinds = append(kinds, fmt.Sprintf("rate limit %v", limit.After))
	}
	if errors.As(err, &text) {
		kinds = append(kinds, fmt.Sprintf("text %d", text.Index))
	}
	if errors.As(err, &answer) {
		kinds = append(kinds, "answer")
	}
	if errors.Is(err, vectorsearch.ErrBatch) {
		kinds = append(kinds, "batch")
	}
	if errors.Is(err, vectorsearch.ErrRefused) {
		kinds = append(kinds, "refused")
	}
	if len(kinds) == 0 {
		return "passing"
	}
	return strings.Join(kinds, " and ")
}

func TestStatusesAreKindsOfErrors(t *testing.T) {
	t.Parallel()
	nan := `{"error":"failed to encode response: json: unsupported value: NaN"}`
	for _, c := range []struct {
		status    int
		body      string
		one, many string // the kind, for one text and for several
	}{
		{http.StatusTooManyRequests, `{"error":{"code":"insufficient_quota"}}`, "rate limit 0s", "rate limit 0s"},
		{http.StatusBadRequest, `{"error":"the input length exceeds the context length"}`, "text 0", "batch"},
		{http.StatusRequestEntityTooLarge, "", "text 0", "batch"},
		{http.StatusUnprocessableEntity, "", "text 0", "batch"},
		{http.StatusUnauthorized, `{"error":{"code":"invalid_api_key"}}`, "refused", "refused"},
		{http.StatusPaymentRequired, "", "refused", "refused"},
		{http.StatusForbidden, "", "refused", "refused"},
		{http.StatusNotFound, `{"error":"model \"m\" not found, try pulling it first"}`, "refused", "refused"},
		{http.StatusMethodNotAllowed, "", "refused", "refused"},
		{http.StatusMovedPermanently, "", "refused", "refused"},
		{http.StatusRequestTimeout, "", "passing", "passing"},
		{http.StatusConflict, "", "passing", "passing"},
		{http.StatusInternalServerError, "out of memory", "passing", "passing"},
		{http.StatusInternalServerError, nan, "text 0", "batch"},
		{http.StatusBadGateway, "<html><body><h1>502 Bad Gateway</h1>\r\n</body></html>", "passing", "passing"},
		{http.StatusServiceUnavailable, "", "passing", "passing"},
		{http.StatusGatewayTimeout, "", "passing", "passing"},
		{529, "overloaded", "passing", "passing"},
	} {
		for _, s := range services() {
			t.Run(fmt.Sprintf("%s %d %.12s", s.name, c.status, c.body), func(t *testing.T) {
				t.Parallel()
				url, requests := serve(t, say(c.status, c.body))
				client := open(t, s, configOf(url))
				for texts, kind := range map[string]string{"a": c.one, "a b c": c.many} {
					vectors, usage, err := client.Embed(t.Context(), strings.Fields(texts))
					require.Error(t, err)
					require.Nil(t, vectors)
					require.Zero(t, usage)
					require.Equal(t, kind, kindOf(err), err.Error())
					require.Contains(t, err.Error(), fmt.Sprintf("HTTP %d: %s", c.status, strings.ReplaceAll(c.body, "\r\n", " ")))
					require.NotContains(t, err.Error(), secret)
				}
				require.Len(t, requests, 2, "nothing is tried again here")
			})
		}
	}
}

func TestPausesThatServicesAskFor(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) // the server's clock, far from ours
	at := func(d time.Duration) string { return date.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		status        int
		after, millis string
		kind          string
	}{
		{429, "", "", "rate limit 0s"},
		{429, "20", "", "rate limit 20s"},
		{429, "0.5", "", "rate limit 500ms"},
		{429, "0", "", "rate limit 0s"},
		{429, "-5", "", "rate limit 0s"},
		{429, "NaN", "", "rate limit 0s"},
		{429, "soon", "", "rate limit 0s"},
		{429, "99999999999999999999", "", "rate limit 1h0m0s"},
		{429, "Inf", "", "rate limit 1h0m0s"},
		{429, at(90 * time.Second), "", "rate limit 1m30s"},
		{429, at(-time.Hour), "", "rate limit 0s"},
		{429, at(300 * 24 * time.Hour), "", "rate limit 1h0m0s"},
		{429, "", "250", "rate limit 250ms"},
		{429, "20", "1500", "rate limit 1.5s"},
		{429, "20", "soon", "rate limit 20s"},
		{503, "20", "", "rate limit 20s"},
		{503, at(time.Minute), "", "rate limit 1m0s"},
		{503, "soon", "", "passing"},
		{500, "20", "", "passing"},
	} {
		t.Run(fmt.Sprintf("%d after %q ms %q", c.status, c.after, c.millis), func(t *testing.T) {
			t.Parallel()
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", date.Format(http.TimeFormat))
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				if c.millis != "" {
					w.Header().Set("retry-after-ms", c.millis)
				}
				w.WriteHeader(c.status)
			})
			_, _, err := open(t, services()[0], configOf(url)).Embed(t.Context(), []string{"a", "b"})
			require.Equal(t, c.kind, kindOf(err))
		})
	}
}

// A date is read by our clock only where the server does not say its own.
func TestARetryDateWithoutTheServersClock(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		w.Header().Set("Retry-After", time.Now().Add(30*time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusTooManyRequests)
	})
	_, _, err := open(t, services()[0], configOf(url)).Embed(t.Context(), []string{"a"})
	var limit *vectorsearch.RateLimitError
	require.ErrorAs(t, err, &limit)
	require.InDelta(t, 30*time.Minute, limit.After, float64(10*time.Minute))
	require.NotZero(t, limit.After)
}

func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	type answers map[string]string // by service
	both := func(vectors ...string) answers {
		all := answers{}
		for _, s := range services() {
			all[s.name] = s.write(vectors...)
		}
		return all
	}
	same := func(body string) answers { return answers{"OpenAI": body, "Ollama": body} }
	indexes := func(list ...string) answers {
		items := make([]string, len(list))
		for i, index := range list {
			items[i] = fmt.Sprintf(`{%s"embedding":[1,2]}`, index)
		}
		return answers{"OpenAI": fmt.Sprintf(`{"data":[%s],"usage":{"total_tokens":7}}`, strings.Join(items, ","))}
	}
	for name, c := range map[string]struct {
		bodies answers
		kind   string
		text   string
		tokens int64
	}{
		"too few":               {both("[1,2]"), "answer", "1 vectors for 2 texts", 7},
		"too many":              {both("[1,2]", "[1,2]", "[1,2]"), "answer", "3 vectors for 2 texts", 7},
		"none":                  {both(), "answer", "0 vectors for 2 texts", 7},
		"another object":        {same(`{"error":"none today"}`), "answer", "0 vectors for 2 texts", 0},
		"wrong dimensions":      {both("[1,2]", "[1,2,3]"), "answer", "vector 1 has 3 dimensions, those of m have 2", 7},
		"no dimensions":         {both("[1,2]", "[ ]"), "answer", "vector 1 has 0 dimensions", 7},
		"index twice":           {indexes(`"index":0,`, `"index":0,`), "answer", "two vectors of index 0", 7},
		"index missing":         {indexes(`"index":0,`, ``), "answer", "a vector without an index", 7},
		"index too large":       {indexes(`"index":0,`, `"index":2,`), "answer", "a vector of index 2 for 2 texts", 7},
		"index negative":        {indexes(`"index":-1,`, `"index":0,`), "answer", "a vector of index -1 for 2 texts", 7},
		"NaN as null":           {both("[1,2]", "[1, null]"), "text 1", "NaN in dimension 1", 7},
		"1e999":                 {both("[1e999,2]", "[1,2]"), "text 0", "+Inf in dimension 0", 7},
		"-1e39, over a float32": {both("[1,2]", "[1,-1e39]"), "text 1", "-Inf in dimension 1", 7},
		"zero":                  {both("[1,2]", "[0,-0.0]"), "text 1", "all zeros", 7},
		"zero, underflown":      {both("[1e-400,0]", "[1,2]"), "text 0", "all zeros", 7},
		"NaN as such":           {both("[1,2]", "[1,NaN]"), "answer", "not the JSON of embeddings", 0},
		"null for a vector":     {both("[1,2]", "null"), "answer", "an embedding is no array", 0},
		"base64":                {both("[1,2]", `"AACAPwAAAEA="`), "answer", "an embedding is no array", 0},
		"no numbers":            {both("[1,2]", `["1",true]`), "answer", "an embedding holds what is no number", 0},
		"nested":                {both("[1,2]", `[[1,2]]`), "answer", "an embedding holds what is no number", 0},
		"HTML":                  {same("<!doctype html><title>Sign in</title>"), "answer", "not the JSON of embeddings", 0},
		"nothing":               {same(""), "answer", "not the JSON of embeddings", 0},
		"half of it":            {same(`{"data":[{"index":0,"embedding":[1,`), "answer", "not the JSON of embeddings", 0},
	} {
		for _, s := range services() {
			body, has := c.bodies[s.name]
			if !has {
				continue
			}
			t.Run(s.name+" "+name, func(t *testing.T) {
				t.Parallel()
				url, _ := serve(t, say(http.StatusOK, body))
				vectors, usage, err := open(t, s, configOf(url)).Embed(t.Context(), []string{"a", "b"})
				require.Error(t, err)
				require.Nil(t, vectors, "all or an error")
				require.Equal(t, c.kind, kindOf(err), err.Error())
				require.Contains(t, err.Error(), c.text)
				require.Equal(t, c.tokens, usage.Tokens, "what was paid for is counted")
				require.NotContains(t, err.Error(), secret)
			})
		}
	}
}

// A server that does not stop talking is left long before it has said all of it.
func TestAFloodIsNotRead(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		const flood = 64 << 20
		said := make(chan int, 1)
		url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			written, chunk := 0, []byte(strings.Repeat(" ", 1<<16))
			defer func() { said <- written }()
			for written < flood {
				n, err := w.Write(chunk)
				written += n
				if err != nil {
					return
				}
			}
		})
		_, _, err := open(t, s, configOf(url)).Embed(t.Context(), []string{"a", "b"})
		require.Equal(t, "answer", kindOf(err))
		require.ErrorContains(t, err, "over 1560576 bytes for 2 texts")
		require.Less(t, <-said, flood)
	}
}

// Services repeat the key in their errors, whole or with / escaped as JSON may do: it is taken out before the text is cut.
func TestTheKeyIsInNoError(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		for name, body := range map[string]string{
			"whole":         "Incorrect API key provided: " + secret + ".",
			"escaped":       `{"error":"wrong key ` + strings.ReplaceAll(secret, "/", `\/`) + `"}`,
			"where it cuts": strings.Repeat("x", 290) + secret,
		} {
			t.Run(s.name+" "+name, func(t *testing.T) {
				t.Parallel()
				url, _ := serve(t, say(http.StatusUnauthorized, body))
				_, _, err := open(t, s, configOf(url)).Embed(t.Context(), []string{"a"})
				require.ErrorIs(t, err, vectorsearch.ErrRefused)
				require.Contains(t, err.Error(), "[key]")
				require.NotContains(t, err.Error(), secret[:7])
			})
		}
	}
}

func TestBodiesOfErrorsAreCut(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, say(http.StatusInternalServerError, "\x00\xff line\n\tby line "+strings.Repeat("ż", 100_000)))
	_, _, err := open(t, services()[0], configOf(url)).Embed(t.Context(), []string{"a"})
	_, excerpt, found := strings.Cut(err.Error(), "HTTP 500: ")
	require.True(t, found)
	require.True(t, strings.HasPrefix(excerpt, "line by line żż"), excerpt)
	require.Greater(t, len(excerpt), 290)
	require.LessOrEqual(t, len(excerpt), 300)
	require.Equal(t, strings.ToValidUTF8(excerpt, ""), excerpt)
}

// A redirect would carry texts and key to a host that nobody has configured.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(s.name, status), func(t *testing.T) {
				t.Parallel()
				reached := make(chan string, 10)
				other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					reached <- r.Header.Get("Authorization")
				}))
				t.Cleanup(other.Close)
				url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/?"+secret, status)
				})
				config := configOf(url)
				config.Client = &http.Client{Transport: ownTransport(), CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
				_, _, err := open(t, s, config).Embed(t.Context(), []string{"a"})
				require.Equal(t, "refused", kindOf(err))
				require.Contains(t, err.Error(), fmt.Sprintf("HTTP %d", status))
				require.NotContains(t, err.Error(), secret)
				require.Len(t, requests, 1)
				require.Empty(t, reached)
			})
		}
	}
}

// hang answers nothing, or half of a body, until the client has gone.
func hang(half bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if half {
			_, _ = w.Write([]byte(`{"data":[`))
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		for _, half := range []bool{false, true} {
			t.Run(fmt.Sprint(s.name, " half a body: ", half), func(t *testing.T) {
				t.Parallel()
				url, _ := serve(t, hang(half))
				config := configOf(url)
				config.Timeout = 100 * time.Millisecond
				_, _, err := open(t, s, config).Embed(t.Context(), []string{"a"})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, "passing", kindOf(err))
			})
			t.Run(fmt.Sprint(s.name, " the caller's client, half a body: ", half), func(t *testing.T) {
				t.Parallel()
				url, _ := serve(t, hang(half))
				config := configOf(url)
				config.Client = &http.Client{Transport: ownTransport(), Timeout: 100 * time.Millisecond}
				_, _, err := open(t, s, config).Embed(t.Context(), []string{"a"})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, "passing", kindOf(err))
			})
		}
	}
}

func TestTheContextEndsACall(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		for _, half := range []bool{false, true} {
			t.Run(fmt.Sprint(s.name, " half a body: ", half), func(t *testing.T) {
				t.Parallel()
				url, requests := serve(t, hang(half))
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-requests
					cancel()
				}()
				_, _, err := open(t, s, configOf(url)).Embed(ctx, []string{"a"})
				require.ErrorIs(t, err, context.Canceled)
				_, _, err = open(t, s, configOf(url)).Embed(ctx, []string{"a"})
				require.ErrorIs(t, err, context.Canceled)
				require.Empty(t, requests, "a context that has ended sends nothing")
			})
		}
	}
}

func TestConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		good := s.write("[1,2]")
		for name, answer := range map[string]http.HandlerFunc{
			"before an answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"in a body of stated length": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(len(good)))
				_, _ = w.Write([]byte(good[:len(good)/2]))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			},
			"in a chunked body": func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(good[:len(good)/2]))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			},
		} {
			t.Run(s.name+" "+name, func(t *testing.T) {
				t.Parallel()
				url, _ := serve(t, answer)
				vectors, _, err := open(t, s, configOf(url)).Embed(t.Context(), []string{"a"})
				require.Nil(t, vectors)
				require.Equal(t, "passing", kindOf(err))
				if name != "before an answer" {
					require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				}
			})
		}
	}
	server := httptest.NewServer(nil)
	server.Close()
	_, _, err := open(t, services()[0], configOf(server.URL)).Embed(t.Context(), []string{"a"})
	require.Equal(t, "passing", kindOf(err))
	require.ErrorContains(t, err, "embedding 1 texts with m: ")
}
