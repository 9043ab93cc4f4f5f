package s3blob_test

import (
	"context"
	"log"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/sight-platform/hindsight/eventstore"
	"github.com/sight-platform/hindsight/partition"
	"github.com/sight-platform/hindsight/partition/s3blob"
)

// A service whose months move into a bucket, and which reads them there.
func Example() {
	ctx := context.Background()
	client, err := minio.New("s3.example.com", &minio.Options{Creds: credentials.NewEnvAWS(), Secure: true})
	if err != nil {
		log.Fatal(err)
	}
	archive, err := s3blob.Open(ctx, client, "our-archives", "hindsight/log")
	if err != nil {
		log.Fatal(err)
	}
	cold, err := partition.NewCold(archive, "/var/cache/our-service", 0)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	store, err := eventstore.New(pool, eventstore.Config{Cold: cold})
	if err != nil {
		log.Fatal(err)
	}
	months, err := partition.New(store, partition.Config{Archive: archive})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(months.Run(ctx))
}
