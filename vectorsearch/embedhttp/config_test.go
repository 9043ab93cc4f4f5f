package embedhttp_test

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/vectorsearch"
	"github.com/sight-platform/hindsight/vectorsearch/embedhttp"
)

var _ vectorsearch.Embedder = (*embedhttp.Client)(nil)

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    string
		change func(*embedhttp.Config)
	}{
		{"Config.BaseURL is no URL", func(c *embedhttp.Config) { c.BaseURL = "http://user:hidden@host:port" }},
		{"Config.BaseURL is not http://host or https://host", func(c *embedhttp.Config) { c.BaseURL = "localhost" }},
		{"Config.BaseURL is not http://host or https://host", func(c *embedhttp.Config) { c.BaseURL = "ftp://host" }},
		{"Config.BaseURL is not http://host or https://host", func(c *embedhttp.Config) { c.BaseURL = "http:///v1" }},
		{"Config.BaseURL has a user, a query or a fragment", func(c *embedhttp.Config) { c.BaseURL = "http://user:hidden@host" }},
		{"Config.BaseURL has a user, a query or a fragment", func(c *embedhttp.Config) { c.BaseURL = "http://host?key=hidden" }},
		{"Config.BaseURL has a user, a query or a fragment", func(c *embedhttp.Config) { c.BaseURL = "http://host#hidden" }},
		{"Config.Key has characters that no key has, such as a space or a line's end", func(c *embedhttp.Config) { c.Key = "hidden\n" }},
		{"Config.DollarsPerMillionTokens is no price", func(c *embedhttp.Config) { c.DollarsPerMillionTokens = -1 }},
		{"Config.DollarsPerMillionTokens is no price", func(c *embedhttp.Config) { c.DollarsPerMillionTokens = math.NaN() }},
		{"Config.Timeout is under a millisecond", func(c *embedhttp.Config) { c.Timeout = -time.Second }},
		{"Model.Name is empty", func(c *embedhttp.Config) { c.Model.Name = "" }},
		{"Model.Dimensions are 0, 1 to 4000 are allowed", func(c *embedhttp.Config) { c.Model.Dimensions = 0 }},
	} {
		for _, s := range services() {
			config := embedhttp.Config{Model: vectorsearch.Model{Name: "m", Dimensions: 2}}
			c.change(&config)
			client, err := s.open(config)
			require.Nil(t, client)
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			require.EqualError(t, err, c.err)
			require.NotContains(t, err.Error(), "hidden")
		}
	}
}

func TestDefaultsNeedOnlyAModel(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		client := open(t, s, embedhttp.Config{Model: vectorsearch.Model{Name: "m", Revision: "r", Dimensions: 2}})
		require.Equal(t, vectorsearch.Model{Name: "m", Revision: "r", Dimensions: 2, MaxTexts: 100, MaxBytes: 8000}, client.Model())
	}
}

// The default addresses are those of the services; a transport that answers by itself shows them.
func TestDefaultAddresses(t *testing.T) {
	t.Parallel()
	want := map[string]string{"OpenAI": "https://api.openai.com/v1/embeddings", "Ollama": "http://localhost:11434/api/embed"}
	for _, s := range services() {
		asked := ""
		config := configOf("")
		config.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked = r.URL.String()
			return nil, http.ErrHandlerTimeout
		})}
		_, _, err := open(t, s, config).Embed(t.Context(), []string{"a"})
		require.ErrorIs(t, err, http.ErrHandlerTimeout)
		require.Equal(t, want[s.name], asked)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
