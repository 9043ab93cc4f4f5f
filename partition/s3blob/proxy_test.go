package s3blob_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// proxy stands before the server, with a certificate: over TLS, requests do not sign what their bodies hold.
type proxy struct {
	request func(*http.Request)       // changes a request, which is then signed again
	lost    func(*http.Response) bool // whether the connection is cut in place of this answer
}

// client goes through the proxy.
func (p proxy) client(t testing.TB, s *server) *minio.Client {
	t.Helper()
	transport := s.transport()
	front := httptest.NewTLSServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host
			if p.request != nil {
				p.request(r.Out)
				r.Out.Header.Del("Authorization")
				r.Out = signer.SignV4(*r.Out, access, secret, "", region)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if p.lost != nil && p.lost(r) {
				return errors.New("lost")
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	})
	t.Cleanup(func() {
		front.Close()
		transport.CloseIdleConnections()
	})
	return newClient(t, front.Listener.Addr().String(), &minio.Options{Secure: true, MaxRetries: 4, Transport: front.Client().Transport})
}

// flipping changes the first byte that is read at each time.
type flipping struct{ io.ReadCloser }

func (f flipping) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	if n > 0 {
		b[0] ^= 1
	}
	return n, err
}
