# Every target needs Go and nothing else, but for `make web`. All paths are relative, so the checkout may lie in a folder with blanks.

GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Leaves out of Google's storage client what only its gRPC transport uses: a quarter of each program, and a third of its memory when idle.
export GOFLAGS := $(GOFLAGS) -tags=disable_grpc_modules

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: build ## Start everything on this machine, with sample data; Ctrl-C ends it
	@exec bin/gateway dev

.PHONY: build
build: ## Build bin/gateway and bin/workerd
	@go build -o bin/ ./gateway ./workerd

# The race detector needs cgo and a C compiler. Go turns cgo off by itself where it finds no compiler.
.PHONY: test
test: ## Run all tests on a temporary PostgreSQL, with the race detector where there is a C compiler
	@if [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC | cut -d ' ' -f 1)" >/dev/null; then \
		go test -race ./...; \
	else \
		echo 'No C compiler: testing without the race detector.'; \
		go test ./...; \
	fi

# A part of the first line, or fewer rows: go run ./sql/bench -h.
.PHONY: bench
bench: ## Measure the task path beside other queues and what this disk allows, then engines, HTTP and realtime; results and plots in bin/bench, or out=folder
	@go run ./sql/bench -out '$(or $(out),bin/bench)'
	@go test -run '^$$' -bench . -benchtime 5x ./workerd ./workerd/media ./workerd/engine/native ./workerd/engine/exec \
		./workerd/engine/comfyui ./workerd/engine/cog ./workerd/openaiserver
	@go test -run '^$$' -bench Overhead -benchtime 2000x ./gateway/rest
	@go test -run '^$$' -bench Changes -benchtime 5000x ./gateway/realtime
	@go test -run '^$$' -bench Doorbell -benchtime 2000x ./gateway/realtime
	@ulimit -n 32768 2>/dev/null; go test -run '^$$' -bench IdleSockets -benchtime 1x ./gateway/realtime

.PHONY: lint
lint: ## Run all linters of .golangci.yaml, go vet among them
	$(GOLANGCI_LINT) run

.PHONY: format
format: ## Format the Go code
	$(GOLANGCI_LINT) fmt

.PHONY: verify
verify: ## Check that all generated files are current, then lint
	go mod tidy -diff
	$(GOLANGCI_LINT) fmt --diff
	go test ./migrations/...
	go test -run 'Clean|Committed' ./gateway/web
	$(MAKE) lint

.PHONY: migration
migration: ## Freeze what changed in sql/ into the next migration: make migration name=claim_skip_locked
	@test -n '$(name)' || { echo 'Name the migration: make migration name=claim_skip_locked' >&2; exit 2; }
	@go run ./migrations/snapshot -name '$(name)'

# The result is committed: no other target needs Node.
.PHONY: web
web: ## Check and build the console anew, into gateway/web/console/dist; needs Node 20.19 and npm
	@cd gateway/web && npm ci --no-fund --no-audit --loglevel=error && npm run --silent check && npm run --silent build -w console

.PHONY: sbom
sbom: build ## Write bin/*.sbom: the modules that the programs are made of, with versions and checksums
	@for program in gateway workerd; do go version -m bin/$$program >bin/$$program.sbom; done

.PHONY: schema
schema: ## Write sql/schema.sql anew
	@go run ./migrations/snapshot

.PHONY: clean
clean: ## Remove the built programs; the data in .darkroom stays
	rm -rf bin
