package s3blob

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
)

// ErrNoConditionalWrites says that the store ignores If-None-Match: a put would silently replace what is there.
var ErrNoConditionalWrites = errors.New("the object store has no conditional writes (If-None-Match)")

// Bucket is a [partition.Blob] in a bucket, or in a folder of one. It is safe for concurrent use. Errors of the store match
// [minio.ErrorResponse].
type Bucket struct {
	client minio.Core
	name   string
	folder string // "", or with a slash at its end
}

var _ partition.Blob = (*Bucket)(nil)

// Open takes a bucket that is there, and a folder in it, such as "archives/log"; "" is the bucket itself. It puts, reads, lists and
// deletes a probe, so that a bucket which is missing, or does not allow one of these, is known at once. A store that would replace
// the probe is refused with [ErrNoConditionalWrites]. The client's own retries are kept.
func Open(ctx context.Context, client *minio.Client, bucket, folder string) (*Bucket, error) {
	b := &Bucket{client: minio.Core{Client: client}, name: bucket}
	if folder != "" {
		if !validKey(folder) {
			return nil, &eventstore.InvalidError{Index: -1, Field: "folder", Reason: "is no path with slashes between its names"}
		}
		b.folder = folder + "/"
	}
	if err := b.probe(ctx); err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", bucket, err)
	}
	return b, nil
}

func (b *Bucket) probe(ctx context.Context) (err error) {
	key := ".hindsight-probe-" + uuid.NewString()
	// That it exists means that the answer to the first try was lost: nobody else has this key.
	if err := b.Put(ctx, key, []byte("first")); err != nil && !errors.Is(err, partition.ErrExists) {
		return err
	}
	defer func() { err = errors.Join(err, b.Delete(ctx, key)) }()
	switch err := b.Put(ctx, key, []byte("second")); {
	case err == nil:
		return ErrNoConditionalWrites
	case !errors.Is(err, partition.ErrExists):
		return err
	}
	content, err := b.Get(ctx, key)
	if err == nil && string(content) != "first" { // the answer which would have said so was lost
		err = ErrNoConditionalWrites
	}
	if err != nil {
		return err
	}
	_, err = b.List(ctx, key)
	return err
}

// A store may answer with 409 where another write or a delete of the key is under way.
const (
	conflictTries = 5
	conflictPause = 100 * time.Millisecond
)

// Put writes the object in one request, which the store carries out whole or not at all. See the package's documentation for
// ErrExists where nobody else has written.
func (b *Bucket) Put(ctx context.Context, key string, content []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	// The store refuses what arrives with other sums. MD5 is for clients with TrailingHeaders, which would send a CRC in place of SHA-256.
	sum, signed := md5.Sum(content), sha256.Sum256(content)
	options := minio.PutObjectOptions{DisableContentSha256: true} // of each chunk, as it is of the whole
	options.SetMatchETagExcept("*")
	for try := 1; ; try++ {
		_, err := b.client.PutObject(ctx, b.name, b.folder+key, bytes.NewReader(content), int64(len(content)),
			base64.StdEncoding.EncodeToString(sum[:]), hex.EncodeToString(signed[:]), options)
		status := minio.ToErrorResponse(err).StatusCode
		if status == http.StatusPreconditionFailed || err != nil && status == 0 && b.exists(ctx, key) {
			return fmt.Errorf("%s: %w", key, partition.ErrExists)
		}
		if status != http.StatusConflict || try == conflictTries {
			return b.failed("putting", key, err)
		}
		select {
		case <-ctx.Done(): // as the next try will say
		case <-time.After(conflictPause):
		}
	}
}

// exists is for a put without an answer: a store may refuse an object before it has read it, and then closes the connection, over
// which the refusal seldom comes.
func (b *Bucket) exists(ctx context.Context, key string) bool {
	_, err := b.client.StatObject(ctx, b.name, b.folder+key, minio.StatObjectOptions{})
	return err == nil
}

// Get reads the object. A missing bucket is another error than ErrNotFound.
func (b *Bucket) Get(ctx context.Context, key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	body, _, _, err := b.client.GetObject(ctx, b.name, b.folder+key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil, fmt.Errorf("%s: %w", key, partition.ErrNotFound)
	}
	if err != nil {
		return nil, b.failed("reading", key, err)
	}
	content, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, b.failed("reading", key, err)
	}
	return content, nil
}

// Delete removes the object. A store does not tell whether there was one.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return b.failed("deleting", key, b.client.RemoveObject(ctx, b.name, b.folder+key, minio.RemoveObjectOptions{}))
}

// List reads the listing page by page.
func (b *Bucket) List(ctx context.Context, prefix string) (keys []string, err error) {
	for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.folder + prefix, Recursive: true}) {
		if object.Err != nil {
			return nil, b.failed("listing", prefix, object.Err)
		}
		// Consoles make folders visible by empty objects, "year=2026/", which are no keys.
		if key := strings.TrimPrefix(object.Key, b.folder); validKey(key) {
			keys = append(keys, key)
		}
	}
	if err := ctx.Err(); err != nil { // the client ends a listing that was cancelled without a word
		return nil, b.failed("listing", prefix, err)
	}
	slices.Sort(keys) // not every store's listing is in order
	return keys, nil
}

func (b *Bucket) failed(what, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in bucket %s: %w", what, b.folder+key, b.name, err)
}

func checkKey(key string) error {
	if !validKey(key) {
		return fmt.Errorf("%q cannot be the key of an object", key)
	}
	return nil
}

func validKey(key string) bool { return fs.ValidPath(key) && key != "." }
