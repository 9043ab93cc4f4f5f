package embedhttp_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/vectorsearch"
	"github.com/sight-platform/hindsight/vectorsearch/embedhttp"
)

func TestVectorsComeInTheOrderOfTheTexts(t *testing.T) {
	t.Parallel()
	outOfOrder := `{"data": [
	  {"index": 2, "embedding": [ 3e0, -0.5 ]},
	  {"index": 0, "embedding": [1, 0]},
	  {"index": 1, "embedding": [
	      0.25,
	      2.5E-1
	  ]}], "model": "m", "usage": {"prompt_tokens": 11, "total_tokens": 12}}`
	inOrder := `{"embeddings": [[1, 0], [0.25, 2.5E-1], [ 3e0, -0.5 ]], "total_duration": 5, "prompt_eval_count": 12}`
	for i, body := range []string{outOfOrder, inOrder} {
		s := services()[i]
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			url, requests := serve(t, say(http.StatusOK, body))
			vectors, usage, err := open(t, s, configOf(url+"/")).Embed(t.Context(), []string{"one", "two <&> źdźbło", "three"})
			require.NoError(t, err)
			require.Equal(t, [][]float32{{1, 0}, {0.25, 0.25}, {3, -0.5}}, vectors)
			require.Equal(t, int64(12), usage.Tokens)
			require.InDelta(t, 24e-6, usage.CostUSD, 1e-12)
			got := <-requests
			require.Equal(t, "POST "+s.path, got.Path)
			require.Equal(t, "Bearer "+secret, got.Key)
			require.Equal(t, []any{"one", "two <&> źdźbło", "three"}, got.Body["input"])
			require.Equal(t, "m", got.Body["model"])
			require.Empty(t, requests, "a call is one request")
		})
	}
}

// What is sent beside model and input: no key and no dimensions unless they are asked for, and Ollama must not cut texts.
func TestRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		send bool
		want []map[string]any // by service
	}{
		{false, []map[string]any{{"model": "m", "input": []any{"a"}}, {"model": "m", "input": []any{"a"}, "truncate": false}}},
		{true, []map[string]any{
			{"model": "m", "input": []any{"a"}, "dimensions": 2.0},
			{"model": "m", "input": []any{"a"}, "dimensions": 2.0, "truncate": false},
		}},
	} {
		for i, s := range services() {
			url, requests := serve(t, say(http.StatusOK, s.write("[1,2]")))
			config := configOf(url)
			config.Key, config.SendDimensions = "", c.send
			_, _, err := open(t, s, config).Embed(t.Context(), []string{"a"})
			require.NoError(t, err)
			require.Equal(t, request{Path: "POST " + s.path, Body: c.want[i]}, <-requests)
		}
	}
}

func TestUsageIsWhatTheServiceSays(t *testing.T) {
	t.Parallel()
	for usage, tokens := range map[string]int64{
		`{"prompt_tokens":3}`:                    3,
		`{"prompt_tokens":3,"total_tokens":5}`:   5,
		`{}`:                                     0,
		`null`:                                   0,
		`{"prompt_tokens":-4,"total_tokens":-4}`: 0,
	} {
		url, _ := serve(t, say(http.StatusOK, fmt.Sprintf(`{"data":[{"index":0,"embedding":[1,2]}],"usage":%s}`, usage)))
		_, got, err := open(t, services()[0], configOf(url)).Embed(t.Context(), []string{"a"})
		require.NoError(t, err)
		require.Equal(t, vectorsearch.Usage{Tokens: tokens, CostUSD: float64(tokens) * 2 / 1e6}, got)
	}
}

func TestNoTextsNoRequest(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		url, requests := serve(t, say(http.StatusInternalServerError, ""))
		vectors, usage, err := open(t, s, configOf(url)).Embed(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, vectors)
		require.Zero(t, usage)
		require.Empty(t, requests)
	}
}

func TestTooManyTextsAreNotSent(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		url, requests := serve(t, say(http.StatusInternalServerError, ""))
		config := configOf(url)
		config.Model.MaxTexts = 2
		_, _, err := open(t, s, config).Embed(t.Context(), []string{"a", "b", "c"})
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		require.EqualError(t, err, "texts are 3, 2 are allowed in a call")
		require.Empty(t, requests)
	}
}

func TestClientsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	for _, s := range services() {
		url, requests := serve(t, say(http.StatusOK, s.write("[1,2]")))
		client := open(t, s, configOf(url))
		var calls sync.WaitGroup
		for i := range 20 {
			calls.Go(func() {
				if _, _, err := client.Embed(t.Context(), []string{fmt.Sprint(i)}); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		calls.Wait()
		texts := map[any]bool{}
		for range 20 {
			texts[(<-requests).Body["input"].([]any)[0]] = true
		}
		require.Len(t, texts, 20)
	}
}

// Whatever else the caller uses the client for, it follows redirects there as before.
func TestTheCallersClientIsLeftAlone(t *testing.T) {
	t.Parallel()
	config := configOf("http://localhost")
	config.Client = &http.Client{}
	_, err := embedhttp.OpenAI(config)
	require.NoError(t, err)
	require.Nil(t, config.Client.CheckRedirect)
}
