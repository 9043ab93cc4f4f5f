package embedhttp

import (
	"encoding/json"

	"github.com/sight-platform/hindsight/vectorsearch"
)

// Ollama makes an embedder of an Ollama server. A model that must be loaded first may need more than the default Timeout.
// Errors match [eventstore.ErrInvalid].
func Ollama(config Config) (*Client, error) {
	return newClient(config, "http://localhost:11434", "/api/embed", ollamaRequest, ollamaAnswer)
}

func ollamaRequest(config Config, texts []string) any {
	return struct {
		Model      string   `json:"model"`
		Input      []string `json:"input"`
		Truncate   bool     `json:"truncate"` // false: a text that is too long is refused, else its end would be lost unseen
		Dimensions int      `json:"dimensions,omitempty"`
	}{Model: config.Model.Name, Input: texts, Dimensions: config.sentDimensions()}
}

func ollamaAnswer(body []byte, _ int) (answer, error) {
	var got struct {
		Embeddings      []vector `json:"embeddings"`
		PromptEvalCount int64    `json:"prompt_eval_count"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return answer{}, &vectorsearch.VectorError{Reason: "not the JSON of embeddings", Err: err}
	}
	all := answer{tokens: got.PromptEvalCount, vectors: make([][]float32, len(got.Embeddings))}
	for i, v := range got.Embeddings {
		all.vectors[i] = v
	}
	return all, nil
}
