package eventstore_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/eventstore/eventstoretest"
)

// Bodies are encrypted with a key per stream. Whoever erases a stream's key has erased what was said in it.
func ExampleCipher() {
	ctx := context.Background()
	keys := keyring{}
	log, err := eventstoretest.Open(ctx, eventstore.Config{Codec: exampleCodec(), Cipher: eventstore.Cipher{Encode: keys.seal, Decode: keys.open}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = log.Close(ctx) }()
	if _, err := log.Append(ctx, "discussion-42", eventstore.NoStream, said{"my name is Zofia"}); err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range log.Stream(ctx, "discussion-42", 0) {
		fmt.Println(event.Data, err)
	}
	delete(keys, "discussion-42")
	for _, err := range log.Stream(ctx, "discussion-42", 0) {
		fmt.Println(errors.Is(err, eventstore.ErrCipher))
	}
	// Output:
	// {my name is Zofia} <nil>
	// true
}

// keyring stands for a key management service.
type keyring map[string]cipher.AEAD

type sealed struct {
	Nonce, Body []byte
}

func (k keyring) seal(_ context.Context, e eventstore.CipherInfo) (json.RawMessage, string, error) {
	id := string(e.StreamID)
	if k[id] == nil {
		key := make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			return nil, "", err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, "", err
		}
		if k[id], err = cipher.NewGCM(block); err != nil {
			return nil, "", err
		}
	}
	nonce := make([]byte, k[id].NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, "", err
	}
	body, err := json.Marshal(sealed{Nonce: nonce, Body: k[id].Seal(nil, nonce, e.JSON, []byte(id))})
	return body, id, err
}

func (k keyring) open(_ context.Context, e eventstore.CipherInfo) (json.RawMessage, error) {
	aead := k[e.Metadata.KeyID]
	if aead == nil {
		return nil, errors.New("the key was erased")
	}
	var s sealed
	if err := json.Unmarshal(e.JSON, &s); err != nil {
		return nil, err
	}
	return aead.Open(nil, s.Nonce, s.Body, []byte(e.StreamID))
}
