// Package embedhttp embeds texts by an HTTP service: [OpenAI] speaks the API of that name, which many servers share, and
// [Ollama] that of a local Ollama.
//
//	embedder, err := embedhttp.OpenAI(embedhttp.Config{
//		Key:                     os.Getenv("OPENAI_API_KEY"),
//		Model:                   vectorsearch.Model{Name: "text-embedding-3-small", Dimensions: 1536},
//		DollarsPerMillionTokens: 0.02,
//	})
//
// A call is one request, never repeated here. What the service answers becomes a kind of error of [vectorsearch.Embedder]:
//
//	429, or 503 that says when to come back  *RateLimitError, with Retry-After or retry-after-ms, an hour at most
//	400, 413, 422                            *TextError for a single text, ErrBatch for several
//	401, 403, 404, other 4xx, redirects      ErrRefused: key, model, address or account must be mended
//	other 5xx, 408, 409, 425                 an error that passes by itself, as of the network and timeouts
//	wrong number, order or dimensions,       *VectorError: the whole answer is refused
//	no JSON, more bytes than could be right
//	NaN, infinite or zero vector             *TextError
//
// A redirect is not followed: it would carry the texts, and perhaps the key, to another host. The key is in no error; what a
// service says in its own is cut to 300 bytes.
package embedhttp
