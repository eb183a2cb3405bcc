# Berth's one entry point. `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Pinned tools, built from the module proxy into .bin.
GOLANGCI_LINT := v2.15.0
GOVULNCHECK := v1.9.0
BENCHSTAT := v0.0.0-20251023143056-3684bd442cc8

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 20s
BENCHFLAGS ?=
PROBE_SECONDS ?= 60
TESTFLAGS ?=
PORT ?= 8080
# The race detector needs a C compiler; without one the tests run without it and say so.
RACE := $(if $(shell command -v "$$(go env CC)" 2>/dev/null),-race)

GOBUILD := CGO_ENABLED=0 go build -trimpath
# Every package that asks a real engine runs alone and last, so that tests with
# deadlines do not share two cores.
ENGINE_PACKAGES := ./cmd/... ./runtime/docker/... ./integration/...
UNIT_PACKAGES = $$(go list ./... | grep -vE '/(cmd|runtime/docker|integration)(/|$$)')

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/berth, one static binary
	@$(GOBUILD) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/berth ./cmd/berth

.PHONY: example-programs
example-programs:
	@export GOOS=linux; \
	$(GOBUILD) -ldflags '-s -w' -o compose-examples/quickstart/bin/app ./compose-examples/quickstart/app; \
	$(GOBUILD) -ldflags '-s -w' -o compose-examples/autoscale/bin/app ./compose-examples/autoscale/app; \
	$(GOBUILD) -ldflags '-s -w' -o compose-examples/rollout/bin/app ./compose-examples/rollout/app; \
	$(GOBUILD) -ldflags '-s -w' -o compose-examples/selfheal/bin/app ./compose-examples/selfheal/app; \
	$(GOBUILD) -ldflags '-s -w' -o compose-examples/shop/bin/app ./compose-examples/shop/app; \
	$(GOBUILD) -ldflags '-s -w' -o compose-examples/shop/bin/worker ./compose-examples/shop/worker; \
	chmod 755 compose-examples/*/bin/*

.PHONY: examples
examples: build example-programs ## Build the programs and images of the examples
	@for e in autoscale quickstart rollout selfheal shop; do bin/berth --progress plain -f compose-examples/$$e/compose.yaml build --quiet; done

.PHONY: images
images: build ## Build PostgreSQL, Redis and nginx images offline from Debian packages
	@for i in postgres redis nginx; do compose-examples/images/rootfs.sh $$i .cache/images/$$i; done
	@bin/berth --progress plain -f compose-examples/images/compose.yaml build --quiet

# Where the images cannot be built they are pulled by the tests themselves.
.PHONY: test-images
test-images: build
	@if [ "$$(. /etc/os-release 2>/dev/null && echo "$${VERSION_CODENAME:-}")" = bookworm ]; then $(MAKE) --no-print-directory images; \
	else echo 'Not Debian 12: the tests pull the images of PostgreSQL, Redis and nginx'; fi

.PHONY: demo
demo: build example-programs ## Bring the quickstart up and show it
	@PORT=$(PORT) compose-examples/quickstart/demo.sh

.PHONY: race-notice
race-notice:
	@$(if $(RACE),:,echo 'No C compiler: the tests run without the race detector')

# These simulate so many turns that the race detector's own runtime runs out of
# epochs (a failed CHECK in tsan_rtl.cpp); they run without it.
LONG_SIMULATIONS := NoLeak|ManyUps|EveryCall

.PHONY: test-unit
test-unit: race-notice ## Run the tests that need no engine
	go test $(RACE) -shuffle=on -timeout 10m -skip '$(LONG_SIMULATIONS)' $(TESTFLAGS) $(UNIT_PACKAGES)
	go test -shuffle=on -timeout 10m -run '$(LONG_SIMULATIONS)' $(TESTFLAGS) ./internal/daemon

.PHONY: test-integration
test-integration: race-notice test-images examples ## Run the tests on the real Docker engine (fails where there is none)
	go test $(RACE) -shuffle=on -timeout 20m -p 1 -count=1 $(TESTFLAGS) $(ENGINE_PACKAGES)

.PHONY: test
test: test-unit test-integration ## Run every test: unit, contract and integration

.bin/golangci-lint-$(GOLANGCI_LINT):
	@echo 'building golangci-lint $(GOLANGCI_LINT) (once; some minutes)'
	@GOBIN=$(CURDIR)/.bin GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	@mv .bin/golangci-lint $@

.bin/govulncheck-$(GOVULNCHECK):
	@GOBIN=$(CURDIR)/.bin GOFLAGS= go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK)
	@mv .bin/govulncheck $@

.bin/benchstat-$(BENCHSTAT):
	@GOBIN=$(CURDIR)/.bin GOFLAGS= go install golang.org/x/perf/cmd/benchstat@$(BENCHSTAT)
	@mv .bin/benchstat $@

.PHONY: lint
lint: .bin/golangci-lint-$(GOLANGCI_LINT) ## Lint with the pinned golangci-lint
	$< run --timeout 15m

.PHONY: vuln
vuln: .bin/govulncheck-$(GOVULNCHECK) ## Look for known vulnerabilities (needs vuln.go.dev)
	@.ci/vuln.sh $<

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (20s)
	@FUZZTIME=$(FUZZTIME) .ci/fuzz.sh

# One after the other also under -j: they would measure each other.
.PHONY: bench
bench: ## Run bench-engine, bench-scheduler, bench-packing and bench-peers in turn
	@for part in engine scheduler packing peers; do $(MAKE) --no-print-directory bench-$$part; done

.PHONY: bench-engine
bench-engine: build ## Measure Berth against the raw engine in one run (BENCHFLAGS)
	go run ./integration/bench -berth bin/berth $(BENCHFLAGS)

.PHONY: bench-go
bench-go: .bin/benchstat-$(BENCHSTAT) ## Run the Go benchmarks and sum them up
	@mkdir -p .cache
	go test -run '^$$' -bench . -benchmem -count 6 $(UNIT_PACKAGES) | tee .cache/bench.txt
	$< .cache/bench.txt

.PHONY: bench-scheduler
bench-scheduler: ## Measure placements a second on 10,000 nodes against their goals
	go run ./scheduler/bench $(BENCHFLAGS)

# A module of its own, so that what swarmkit needs stays out of go.mod.
.PHONY: bench-peers
bench-peers: ## Place the same tasks with swarmkit's scheduler and with Berth's (some minutes)
	cd scheduler/peers && go run . $(BENCHFLAGS)

.PHONY: bench-probes
bench-probes: ## Measure 1,000 TCP and HTTP probes a second, for PROBE_SECONDS (60) each, and what grows or drifts
	go test -run '^$$' -bench Probes -benchtime $(PROBE_SECONDS)x -timeout 30m ./health

.PHONY: bench-packing
bench-packing: ## Pack generated replicas: nodes taken against the lower bound and other ways
	go test -run '^$$' -bench Packing -benchtime 1x ./scheduler

.PHONY: cover
cover: ## Show the unit tests' coverage; the profile stays in cover.out
	go test -coverprofile=cover.out -coverpkg=./runtime/...,./internal/...,./scheduler,./scaling/...,./health $(UNIT_PACKAGES)
	go tool cover -func=cover.out | tail -n 1

.PHONY: check
check: ## What a change must pass: format, modules, lint, every test
	@test -z "$$(gofmt -l $$(git ls-files '*.go') | tee /dev/stderr)" || { echo 'gofmt would change the files above'; exit 1; }
	go mod tidy -diff
	go mod verify
	@$(MAKE) --no-print-directory lint test

.PHONY: clean
clean: ## Remove what was built here (images and volumes in Docker stay)
	rm -rf bin dist cover.out .bin .cache compose-examples/*/bin
