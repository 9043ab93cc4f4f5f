package embedhttp

import (
	"encoding/json"
	"fmt"

	"github.com/sight-platform/hindsight/vectorsearch"
)

// OpenAI makes an embedder of OpenAI's API or one of its shape, by Config.BaseURL. Errors match [eventstore.ErrInvalid].
func OpenAI(config Config) (*Client, error) {
	return newClient(config, "https://api.openai.com/v1", "/embeddings", openAIRequest, openAIAnswer)
}

func openAIRequest(config Config, texts []string) any {
	return struct {
		Model      string   `json:"model"`
		Input      []string `json:"input"`
		Dimensions int      `json:"dimensions,omitempty"`
	}{config.Model.Name, texts, config.sentDimensions()}
}

func openAIAnswer(body []byte, texts int) (answer, error) {
	var got struct {
		Data []struct {
			Index     *int   `json:"index"`
			Embedding vector `json:"embedding"`
		} `json:"data"`
		Usage struct {
			PromptTokens int64 `json:"prompt_tokens"`
			TotalTokens  int64 `json:"total_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return answer{}, &vectorsearch.VectorError{Reason: "not the JSON of embeddings", Err: err}
	}
	all := answer{tokens: got.Usage.TotalTokens, vectors: make([][]float32, texts)}
	if all.tokens == 0 {
		all.tokens = got.Usage.PromptTokens
	}
	if len(got.Data) != texts {
		return all, &vectorsearch.VectorError{Reason: fmt.Sprintf("%d vectors for %d texts", len(got.Data), texts)}
	}
	for _, item := range got.Data { // in any order: the index says which text it is of
		switch {
		case item.Index == nil:
			return all, &vectorsearch.VectorError{Reason: "a vector without an index"}
		case *item.Index < 0 || *item.Index >= texts:
			return all, &vectorsearch.VectorError{Reason: fmt.Sprintf("a vector of index %d for %d texts", *item.Index, texts)}
		case all.vectors[*item.Index] != nil:
			return all, &vectorsearch.VectorError{Reason: fmt.Sprintf("two vectors of index %d", *item.Index)}
		}
		all.vectors[*item.Index] = item.Embedding
	}
	return all, nil
}
