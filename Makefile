# Hindsight. `make help` lists what there is; CI runs these targets and nothing else.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
INTERACTIONS ?= 24000000
TEST := go test -shuffle=on -count=1 -timeout 20m
MODULES := . examples partition/s3blob internal/duckdbtest
# What a pooler, or another release of the server, can make a difference to.
ON_SERVERS := . examples

.PHONY: help setup setup-browser setup-polish demo test race lint fuzz mutants bench bench-analytics bench-search test-docker test-pgbouncer

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## install what is missing for a database (PostgreSQL with pgvector; says what and why first)
	@command -v go >/dev/null || { echo "setup: Go is not installed; see https://go.dev/doc/install" >&2; exit 1; }
	@bash internal/devdb/setup.sh

setup-browser: ## install a browser for the test of examples/timetravel's page, if there is none
	@bash internal/devdb/setup.sh browser

setup-polish: setup ## install a Polish dictionary for PostgreSQL, if there is none (searches do without)
	@bash internal/devdb/setup.sh polish

demo: setup ## import, replay and follow recorded discussions (RECORDING=path for one of yours, gzipped or not)
	@cd examples && go run ./demo $(if $(RECORDING),-recording $(abspath $(RECORDING)))

test: setup ## run the whole test suite (HINDSIGHT_CORPUS=dir adds the recorded discussions there)
	@for module in $(MODULES); do (cd $$module && $(TEST) ./...); done

race: setup ## the same under the race detector
	@for module in $(MODULES); do (cd $$module && $(TEST) -race ./...); done

lint: ## check style and mistakes
	@for module in $(MODULES); do (cd $$module && $(GOLANGCI_LINT) run ./...); done

fuzz: setup ## run each fuzzer for FUZZTIME (30s, or 20000x: so many inputs)
	@for target in eventstore/FuzzDecode eventstore/FuzzStreamID eventstore/focusgroup/FuzzReadRecording; do \
	  go test "./$${target%/*}" -run '^$$' -fuzz "^$${target##*/}$$" -fuzztime $(FUZZTIME); done

mutants: setup ## take each mechanism out in turn and show the test that turns red
	@go run ./internal/mutants

bench: setup ## measure against raw pgx, as ratios (ONLY=prefix,... for some; a few minutes on a quiet machine)
	@go run ./internal/bench $(if $(ONLY),-only $(ONLY))

bench-analytics: setup ## measure the star at two years of a platform (INTERACTIONS=24000000; many minutes)
	@go run ./internal/benchanalytics -interactions $(INTERACTIONS)

bench-search: setup ## measure searches beside hand-written SQL on 100,000 vectors a month, over one and six (many minutes)
	@go run ./internal/benchsearch

test-docker: ## the suite through testcontainers-go on PostgreSQL 17 (starts a Docker engine where it is root on Debian)
	@trap 'internal/devdb/docker-engine.sh stop' EXIT; settings=$$(internal/devdb/docker-engine.sh); eval "$$settings"; \
	for module in $(ON_SERVERS); do (cd $$module && $(TEST) ./...); done

test-pgbouncer: setup ## the suite through PgBouncer in transaction mode (installs it on Debian and Ubuntu)
	@bash internal/devdb/setup.sh pgbouncer
	@go run ./internal/devdb/pgbouncer bash -euc 'for module in $(ON_SERVERS); do (cd $$module && $(TEST) ./...); done'
