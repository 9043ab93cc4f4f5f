package embedhttp_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/vectorsearch"
	"github.com/sight-platform/hindsight/vectorsearch/embedhttp"
)

// secret has what JSON may escape, and must be in no error.
const secret = "sk-test/0123456789+abcdef"

// service is one of the two APIs, as these tests need it.
type service struct {
	name  string
	open  func(embedhttp.Config) (*embedhttp.Client, error)
	path  string
	write func(vectors ...string) string // the body of a good answer, of the JSON of its vectors
}

func services() []service {
	return []service{
		{"OpenAI", embedhttp.OpenAI, "/embeddings", func(vectors ...string) string {
			items := make([]string, len(vectors))
			for i, v := range vectors {
				items[i] = fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, i, v)
			}
			return fmt.Sprintf(`{"object":"list","data":[%s],"usage":{"prompt_tokens":7,"total_tokens":7}}`, strings.Join(items, ","))
		}},
		{"Ollama", embedhttp.Ollama, "/api/embed", func(vectors ...string) string {
			return fmt.Sprintf(`{"model":"m","embeddings":[%s],"prompt_eval_count":7}`, strings.Join(vectors, ","))
		}},
	}
}

// request is what the server was sent.
type request struct {
	Path, Key string
	Body      map[string]any
}

// serve starts a server that answers each request by one function, and keeps what it was sent.
func serve(t *testing.T, answer http.HandlerFunc) (url string, requests <-chan request) {
	t.Helper()
	sent := make(chan request, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := request{Path: r.Method + " " + r.URL.Path, Key: r.Header.Get("Authorization")}
		if err := json.NewDecoder(r.Body).Decode(&got.Body); err != nil {
			t.Errorf("a request without JSON: %v", err)
		}
		sent <- got
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, sent
}

// say answers with a status and a body.
func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// ownTransport shares no connections: a test server that is closed closes the idle ones of http.DefaultTransport, another test's too.
func ownTransport() http.RoundTripper { return &http.Transport{DisableKeepAlives: true} }

func configOf(url string) embedhttp.Config {
	return embedhttp.Config{
		Client:  &http.Client{Transport: ownTransport()},
		BaseURL: url, Key: secret, Model: vectorsearch.Model{Name: "m", Dimensions: 2}, DollarsPerMillionTokens: 2, Timeout: time.Minute,
	}
}

func open(t *testing.T, s service, config embedhttp.Config) *embedhttp.Client {
	t.Helper()
	client, err := s.open(config)
	require.NoError(t, err)
	return client
}
