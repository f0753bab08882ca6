# rkt: build, try, test, measure, install. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

export CGO_ENABLED := 0
export GOTOOLCHAIN := local

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO_BUILD := go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

PREFIX ?= /usr
LIBEXEC := $(DESTDIR)$(PREFIX)/libexec/rkt
# What the tests keep between runs: images made from Debian packages.
TEST_CACHE ?= /var/cache/rkt-tests
# Debian packages that the tests and the benchmarks use.
TEST_PACKAGES := mmdebstrap umoci skopeo e2fsprogs attr strace
VM_PACKAGES := mmdebstrap qemu-system-x86 e2fsprogs
BENCH_PACKAGES := podman crun runc bubblewrap gcc libc6-dev

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## the programs, into bin/
	$(GO_BUILD) -o bin/rkt ./cmd/rkt
	$(GO_BUILD) -o bin/rkt-fetch ./cmd/rkt-fetch
	$(GO_BUILD) -o bin/stage1/native/stage1 ./stage1
	install -m 0644 stage1/native/manifest.json bin/stage1/native/
	install -D -m 0755 bin/stage1/native/stage1 bin/stage1/fly/stage1
	install -m 0644 stage1/fly/manifest.json bin/stage1/fly/

.PHONY: demo
demo: build ## make a small image and run it as a pod (as root)
	./tests/demo

.PHONY: test
test: test-packages test-unit test-e2e ## everything (as root; installs what it needs)

.PHONY: test-packages
test-packages:
	@./tests/need $(TEST_PACKAGES)

.PHONY: test-unit
test-unit: build ## tests beside the code
	go vet ./...
	go test $(TEST_FLAGS) -p 1 $$(go list ./... | grep -v '^rkt/tests$$') # one at a time: they look at the whole machine

.PHONY: test-e2e
test-e2e: build test-programs ## the built programs on real registries, images and kernels
	RKT_BIN=$(CURDIR)/bin RKT_TEST_CACHE=$(TEST_CACHE) go test $(TEST_FLAGS) -count=1 -timeout 40m ./tests

# What the tests run beside rkt. The registry is a module of its own.
.PHONY: test-programs
test-programs: bin/tests/registry
	$(GO_BUILD) -o bin/tests/images ./tests/images
	$(GO_BUILD) -o bin/tests/probe ./tests/probe

bin/tests/registry: tests/registry/main.go tests/registry/go.mod
	cd tests/registry && $(GO_BUILD) -o $(CURDIR)/$@ .

# Guests with systemd and cgroup v2: GUEST=debian12 or debian13, RUN=regexp of tests, IN=folders of packages.
GUEST ?= debian13
RUN ?= .
IN ?= ./tests
VM = go run ./tests/vm -cache $(TEST_CACHE)

.PHONY: test-vm
test-vm: build test-programs ## RUN=regexp in a Debian guest (not in `test` until its time is measured)
	@./tests/need $(VM_PACKAGES)
	$(VM) -guest $(GUEST) -run '$(RUN)' $(IN)

.PHONY: test-vm-full
test-vm-full: build test-programs ## every test in each Debian guest
	@./tests/need $(VM_PACKAGES)
	$(VM) -guest debian13,debian12 -timeout 90m $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | sed -n '/depcheck$$/d; s/^rkt/./p')

.PHONY: bench
bench: build ## start-up, enter, fetch, memory beside the installed peers (as root)
	@./tests/need $(TEST_PACKAGES) $(BENCH_PACKAGES)
	$(MAKE) test-programs
	python3 tests/bench/bench.py

.PHONY: lint
lint: ## formatting, vet and the import rules
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go test ./internal/depcheck

.PHONY: install
install: build ## into $(DESTDIR)$(PREFIX)
	install -D -m 0755 bin/rkt $(DESTDIR)$(PREFIX)/bin/rkt
	install -D -m 0755 bin/rkt-fetch $(LIBEXEC)/rkt-fetch
	for f in native fly; do \
		install -D -m 0755 bin/stage1/$$f/stage1 $(LIBEXEC)/stage1/$$f/stage1 && \
		install -D -m 0644 bin/stage1/$$f/manifest.json $(LIBEXEC)/stage1/$$f/manifest.json || exit 1; \
	done
