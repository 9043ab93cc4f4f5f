package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// An HTTP handler serves the log page by page; the client hands the opaque cursor back.
func ExampleStore_Page() {
	ctx := context.Background()
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: exampleCodec()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = log.Close(ctx) }()
	if _, err := log.Append(ctx, "discussion-42", eventstore.NoStream, said{"one"}, said{"two"}, said{"three"}); err != nil {
		fmt.Println(err)
		return
	}

	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, err := log.Page(r.Context(), eventstore.PageQuery{After: eventstore.Cursor(r.URL.Query().Get("after")), Limit: 2})
		switch {
		case errors.Is(err, eventstore.ErrBadCursor) || errors.Is(err, eventstore.ErrLogRewound):
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		case err != nil:
			http.Error(w, "the log cannot be read", http.StatusInternalServerError)
			return
		}
		var answer struct {
			Texts []string
			Next  eventstore.Cursor
			More  bool
		}
		for _, event := range page.Events {
			answer.Texts = append(answer.Texts, event.Data.(said).Text)
		}
		answer.Next, answer.More = page.Next, page.More
		_ = json.NewEncoder(w).Encode(answer)
	})

	after := ""
	for more := true; more; {
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/log?after="+url.QueryEscape(after), nil))
		var answer struct {
			Texts []string
			Next  string
			More  bool
		}
		if err := json.Unmarshal(response.Body.Bytes(), &answer); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer.Texts, answer.More)
		after, more = answer.Next, answer.More
	}
	// Output:
	// [one two] true
	// [three] false
}
