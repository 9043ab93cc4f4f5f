package embedhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/vectorsearch"
)

// Config of a [Client]. Only Model must be set.
type Config struct {
	// BaseURL of the API, to which the path of the call is added. Defaults to OpenAI's "https://api.openai.com/v1", or to
	// "http://localhost:11434" for Ollama.
	BaseURL string
	// Key is sent as a bearer token. Defaults to none.
	Key string
	// Model is named as the service names it. Set Revision where the service may change the model behind the name.
	Model vectorsearch.Model
	// SendDimensions asks for vectors of Model.Dimensions, of models that can shorten theirs. Defaults to not saying so: others
	// refuse it.
	SendDimensions bool
	// DollarsPerMillionTokens is the price. Defaults to 0: no cost is recorded.
	DollarsPerMillionTokens float64
	// Timeout of a call, with all of its answer. Defaults to 30 s.
	Timeout time.Duration
	// Client to send with, such as one with another proxy or certificates; it never follows redirects. Defaults to one with
	// http.DefaultTransport.
	Client *http.Client
}

func (c Config) withDefaults(baseURL string) Config {
	if c.BaseURL == "" {
		c.BaseURL = baseURL
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Client == nil {
		c.Client = &http.Client{}
	}
	return c
}

func (c Config) validate() error {
	fail := func(field, reason string) error {
		return &eventstore.InvalidError{Index: -1, Field: "Config." + field, Reason: reason}
	}
	base, err := url.Parse(c.BaseURL)
	notInHeader := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case err != nil: // without the error, which would repeat a password
		return fail("BaseURL", "is no URL")
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		return fail("BaseURL", "is not http://host or https://host")
	case base.User != nil, base.RawQuery != "", base.Fragment != "":
		return fail("BaseURL", "has a user, a query or a fragment") // errors of the network would repeat them
	case strings.ContainsFunc(c.Key, notInHeader):
		return fail("Key", "has characters that no key has, such as a space or a line's end")
	case math.IsNaN(c.DollarsPerMillionTokens), math.IsInf(c.DollarsPerMillionTokens, 0), c.DollarsPerMillionTokens < 0:
		return fail("DollarsPerMillionTokens", "is no price")
	case c.Timeout < time.Millisecond:
		return fail("Timeout", "is under a millisecond")
	}
	return nil
}

// sentDimensions is 0 where they are not to be sent.
func (c Config) sentDimensions() int {
	if c.SendDimensions {
		return c.Model.Dimensions
	}
	return 0
}

// Client is a [vectorsearch.Embedder]. It is safe for concurrent use.
type Client struct {
	config  Config
	url     string
	client  http.Client
	request func(config Config, texts []string) any
	answer  func(body []byte, texts int) (answer, error)
}

// answer is what a service has said, before anything but its shape is checked.
type answer struct {
	vectors [][]float32
	tokens  int64
}

func newClient(
	config Config, baseURL, path string, request func(Config, []string) any, parse func([]byte, int) (answer, error),
) (*Client, error) {
	config = config.withDefaults(baseURL)
	if err := config.validate(); err != nil {
		return nil, err
	}
	var err error
	if config.Model, err = vectorsearch.CheckModel(config.Model); err != nil {
		return nil, err
	}
	c := &Client{config: config, url: strings.TrimRight(config.BaseURL, "/") + path, client: *config.Client, request: request, answer: parse}
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Model is that of the Config, with its defaults.
func (c *Client) Model() vectorsearch.Model { return c.config.Model }

// Embed sends one request, or none without texts. Its errors are those of [vectorsearch.Embedder]; more texts than
// Model.MaxTexts match [eventstore.ErrInvalid].
func (c *Client) Embed(ctx context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	if len(texts) == 0 {
		return nil, vectorsearch.Usage{}, nil
	}
	if most := c.config.Model.MaxTexts; len(texts) > most {
		return nil, vectorsearch.Usage{}, &eventstore.InvalidError{
			Index: -1, Field: "texts", Reason: fmt.Sprintf("are %d, %d are allowed in a call", len(texts), most),
		}
	}
	vectors, usage, err := c.embed(ctx, texts)
	if err != nil {
		return nil, usage, fmt.Errorf("embedding %d texts with %s: %w", len(texts), c.config.Model.Name, err)
	}
	return vectors, usage, nil
}

func (c *Client) embed(ctx context.Context, texts []string) ([][]float32, vectorsearch.Usage, error) {
	body, err := c.post(ctx, texts)
	if err != nil {
		return nil, vectorsearch.Usage{}, err
	}
	got, err := c.answer(body, len(texts))
	tokens := max(0, got.tokens)
	usage := vectorsearch.Usage{Tokens: tokens, CostUSD: float64(tokens) * c.config.DollarsPerMillionTokens / 1e6}
	if err == nil {
		err = vectorsearch.CheckVectors(c.config.Model, texts, got.vectors)
	}
	return got.vectors, usage, err
}

const (
	maxErrorBody = 64 << 10 // read of an answer that is no success
	maxExcerpt   = 300      // shown of it
	maxPause     = time.Hour
)

// maxAnswer is more than any right answer needs: a number takes up to 25 bytes, some services indent each, and 4,000 dimensions
// are the most, so that a wrong number of them is still told from a flood.
func maxAnswer(texts int) int64 { return 1<<20 + int64(texts)*4000*64 }

// post returns the body of a successful answer.
func (c *Client) post(ctx context.Context, texts []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	payload, err := json.Marshal(c.request(c.config, texts))
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if c.config.Key != "" {
		request.Header.Set("Authorization", "Bearer "+c.config.Key)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody)) // as much as came: the status says enough
		return nil, c.failed(response, body, len(texts))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer(len(texts))+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if int64(len(body)) > maxAnswer(len(texts)) {
		return nil, &vectorsearch.VectorError{Reason: fmt.Sprintf("over %d bytes for %d texts", maxAnswer(len(texts)), len(texts))}
	}
	return body, nil
}

// failed makes of an answer that is no success the kind of error that the package's doc promises.
func (c *Client) failed(response *http.Response, body []byte, texts int) error {
	err := fmt.Errorf("HTTP %d: %s", response.StatusCode, c.excerpt(body))
	// Ollama's way to say that a text's vector has a NaN: it cannot encode its answer.
	nan := response.StatusCode == http.StatusInternalServerError && bytes.Contains(body, []byte("unsupported value: NaN"))
	after := retryAfter(response.Header, time.Now())
	switch status := response.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && after > 0:
		return &vectorsearch.RateLimitError{After: after, Err: err}
	case nan, status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		if texts == 1 {
			return &vectorsearch.TextError{Index: 0, Err: err}
		}
		return fmt.Errorf("%w: %w", vectorsearch.ErrBatch, err)
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly:
		return err
	}
	return fmt.Errorf("%w: %w", vectorsearch.ErrRefused, err)
}

// excerpt is what an error shows of a body: one line of text, without the key that some services repeat.
func (c *Client) excerpt(body []byte) string {
	noText := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError }
	text := strings.Join(strings.FieldsFunc(strings.ReplaceAll(string(body), `\/`, "/"), noText), " ") // JSON may write / as \/
	if c.config.Key != "" {
		text = strings.ReplaceAll(text, c.config.Key, "[key]") // before it is cut, which could leave a part of it
	}
	if len(text) > maxExcerpt {
		text = strings.ToValidUTF8(text[:maxExcerpt], "")
	}
	return text
}

// retryAfter is the pause that the service asks for; 0 where it does not say, or says what cannot be read.
func retryAfter(header http.Header, now time.Time) time.Duration {
	if milliseconds, err := strconv.ParseFloat(header.Get("Retry-After-Ms"), 64); err == nil {
		return pause(milliseconds / 1000)
	}
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return pause(seconds)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date // the clock that it goes by is its own
	}
	return pause(at.Sub(now).Seconds())
}

// pause is bounded: a service that is mistaken about its own limit is asked again within the hour.
func pause(seconds float64) time.Duration {
	if math.IsNaN(seconds) || seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, maxPause.Seconds()) * float64(time.Second))
}

// vector reads null, as some services write NaN, and numbers too large for a float32: both are found by CheckVectors, which
// knows whose text it is, where an error of decoding would refuse the whole answer.
type vector []float32

func (v *vector) UnmarshalJSON(data []byte) error {
	inner, isArray := bytes.CutPrefix(data, []byte("["))
	if !isArray {
		return errors.New("an embedding is no array")
	}
	inner = bytes.TrimSpace(bytes.TrimSuffix(inner, []byte("]")))
	if len(inner) == 0 {
		return nil
	}
	numbers := make([]float32, 0, bytes.Count(inner, []byte(","))+1)
	for number := range bytes.SplitSeq(inner, []byte(",")) {
		number = bytes.TrimSpace(number)
		if string(number) == "null" {
			numbers = append(numbers, float32(math.NaN()))
			continue
		}
		x, err := strconv.ParseFloat(string(number), 32)
		if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range, it is infinite
			return errors.New("an embedding holds what is no number")
		}
		numbers = append(numbers, float32(x))
	}
	*v = numbers
	return nil
}
