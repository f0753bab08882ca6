# rkt: build, try, test, measure, install. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

export CGO_ENABLED := 0
export GOTOOLCHAIN := local

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO_BUILD := go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

# Where the programs are built.
BIN ?= bin
PREFIX ?= /usr
LIBEXEC := $(DESTDIR)$(PREFIX)/libexec/rkt
UNITS := $(DESTDIR)$(PREFIX)/lib/systemd/system
SHARE := $(DESTDIR)$(PREFIX)/share
# The time of everything in a package: the same sources make the same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
DEB ?= $(BIN)/rkt.deb
# What the tests keep between runs: images made from Debian packages.
TEST_CACHE ?= /var/cache/rkt-tests
# Debian packages that the tests and the benchmarks use.
TEST_PACKAGES := dbus-daemon mmdebstrap umoci skopeo e2fsprogs attr strace nftables iproute2 containernetworking-plugins
VM_PACKAGES := mmdebstrap qemu-system-x86 e2fsprogs genisoimage
BENCH_PACKAGES := podman crun runc bubblewrap gcc libc6-dev

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## the programs, into bin/
	$(GO_BUILD) -o $(BIN)/rkt ./cmd/rkt
	$(GO_BUILD) -o $(BIN)/rkt-fetch ./cmd/rkt-fetch
	$(GO_BUILD) -o $(BIN)/rkt-quadlet ./cmd/rkt-quadlet
	$(GO_BUILD) -o $(BIN)/rkt-net ./cmd/rkt-net
	$(GO_BUILD) -o $(BIN)/stage1/native/stage1 ./stage1
	install -m 0644 stage1/native/manifest.json $(BIN)/stage1/native/
	install -D -m 0755 $(BIN)/stage1/native/stage1 $(BIN)/stage1/fly/stage1
	install -m 0644 stage1/fly/manifest.json $(BIN)/stage1/fly/

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
	RKT_BIN=$(CURDIR)/bin RKT_TEST_CACHE=$(TEST_CACHE) go test $(TEST_FLAGS) -count=1 -timeout 40m -skip '^Test(Systemd|CloudInit)' ./tests

.PHONY: test-powercut
test-powercut: build test-programs ## 2000 power cuts on a disk of their own (ten minutes)
	RKT_TEST_POWER_CUTS=2000 RKT_BIN=$(CURDIR)/bin RKT_TEST_CACHE=$(TEST_CACHE) go test $(TEST_FLAGS) -count=1 -timeout 60m -run TestPowerCut -v ./tests

.PHONY: test-crash
test-crash: build test-programs ## every point at which a command can be killed or its disk can fail (half an hour)
	RKT_CRASH_BUDGET=0 RKT_BIN=$(CURDIR)/bin RKT_TEST_CACHE=$(TEST_CACHE) go test $(TEST_FLAGS) -count=1 -timeout 90m -run AtAnyCall -v ./tests

.PHONY: test-mutants
test-mutants: test-programs ## every promise with a mutant: its test must fail when it is broken (RUN=regexp of mutants)
	RKT_TEST_CACHE=$(TEST_CACHE) go run ./tests/mutants $(if $(filter-out .,$(RUN)),-run '$(RUN)')

# What the tests run beside rkt. The registry is a module of its own.
.PHONY: test-programs
test-programs: bin/tests/registry
	$(GO_BUILD) -o bin/tests/images ./tests/images
	$(GO_BUILD) -o bin/tests/probe ./tests/probe
	$(MAKE) --no-print-directory build BIN=bin/next VERSION='$(VERSION)-next' # to upgrade to

bin/tests/registry: tests/registry/main.go tests/registry/go.mod
	cd tests/registry && $(GO_BUILD) -o $(CURDIR)/$@ .

# Packages of this version and of a later one, for the guests.
.PHONY: test-packages-deb
test-packages-deb:
	$(MAKE) --no-print-directory deb
	$(MAKE) --no-print-directory deb BIN=$(BIN)/next VERSION='$(VERSION)-next'

# Guests with systemd and cgroup v2. RUN=regexp of tests runs those in GUEST=debian13
# or debian12, of the packages IN=folders. Without RUN it is what CI runs: the tests that
# need systemd, and of the others some that meet cgroup v2, AppArmor and old kernels.
VM = go run ./tests/vm -cache $(TEST_CACHE)
IN ?= ./tests
VM_TESTS := ^TestSystemd|^Test(DefaultConfinement|EnterRunsInTheApp|RunVolumesKeepTheOwnersOnDisk|RunLimits|RootsEqualWhatUmociUnpacks|KilledSupervisorLeavesAnOrphanThatGCKills|TwentyPodsAtOnce)$$

.PHONY: test-vm
test-vm: build test-programs test-packages-deb ## the tests that need systemd, in Debian guests; or RUN=regexp in GUEST=debian13
	@./tests/need $(VM_PACKAGES)
ifdef RUN
	$(VM) -guest $(or $(GUEST),debian13) -run '$(RUN)' $(IN)
else
	$(VM) -guest $(or $(GUEST),debian13$(comma)debian12) -run '$(VM_TESTS)'
	$(VM) -guest debian13 -seed tests/vm/seed -run '^TestCloudInit$$'
endif

.PHONY: test-vm-full
test-vm-full: build test-programs test-packages-deb ## every test in each Debian guest
	@./tests/need $(VM_PACKAGES)
	$(VM) -guest debian13,debian12 -timeout 90m $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | sed -n '/depcheck$$/d; s/^rkt/./p')
	$(VM) -guest debian13 -seed tests/vm/seed -run '^TestCloudInit$$'

comma := ,

# FUZZ is a regexp of "package name"; FUZZTIME 0 lists the targets.
FUZZTIME ?= 20s
FUZZ ?= /(image|fetch|stage1|internal)/|/image |/settings |/plan

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME=20s (FUZZ=regexp of targets)
	./tests/fuzz $(FUZZTIME) '$(FUZZ)'

.PHONY: bench
bench: build ## start-up, enter, fetch, memory beside the installed peers (as root; ONLY=regexp of sections)
	@./tests/need $(TEST_PACKAGES) $(BENCH_PACKAGES)
	$(MAKE) test-programs
	$(GO_BUILD) -o bin/tests/bench ./tests/bench
	bin/tests/bench $(if $(ONLY),-only '$(ONLY)')

.PHONY: bench-vm
bench-vm: build test-programs ## what a pod costs under systemd, in a Debian 13 guest
	@./tests/need $(VM_PACKAGES)
	$(GO_BUILD) -o bin/tests/bench ./tests/bench
	$(VM) -guest debian13 -timeout 90m -command '/rkt/bin/tests/bench -bin /rkt/bin -only systemd -n 21'

.PHONY: lint
lint: ## formatting, vet and the import rules
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go test ./internal/depcheck

# Manual pages, completions and licences, made by the programs and from the
# modules that they are built of.
.PHONY: docs
docs: build
	rm -rf $(BIN)/share && mkdir -p $(BIN)/share
	env -u GOOS -u GOARCH go build -o $(BIN)/share/.rkt ./cmd/rkt
	$(BIN)/share/.rkt help --format=json | SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) env -u GOOS -u GOARCH go run ./dist/man -out $(BIN)/share/man -version '$(VERSION)'
	for s in bash zsh fish; do $(BIN)/share/.rkt completion $$s >$(BIN)/share/completion.$$s || exit 1; done
	rm $(BIN)/share/.rkt
	dist/licences >$(BIN)/share/third-party-licences

.PHONY: install
install: build docs ## into $(DESTDIR)$(PREFIX)
	install -D -m 0755 $(BIN)/rkt $(DESTDIR)$(PREFIX)/bin/rkt
	install -D -m 0755 $(BIN)/rkt-fetch $(LIBEXEC)/rkt-fetch
	install -D -m 0755 $(BIN)/rkt-quadlet $(LIBEXEC)/rkt-quadlet
	install -D -m 0755 $(BIN)/rkt-net $(LIBEXEC)/rkt-net
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system-generators
	ln -sf ../../../libexec/rkt/rkt-quadlet $(DESTDIR)$(PREFIX)/lib/systemd/system-generators/rkt-system-generator
	for f in native fly; do \
		install -D -m 0755 $(BIN)/stage1/$$f/stage1 $(LIBEXEC)/stage1/$$f/stage1 && \
		install -D -m 0644 $(BIN)/stage1/$$f/manifest.json $(LIBEXEC)/stage1/$$f/manifest.json || exit 1; \
	done
	install -d $(UNITS) $(SHARE)/man/man1
	for u in dist/systemd/*; do sed 's,/usr/bin/,$(PREFIX)/bin/,' $$u >$(UNITS)/$${u##*/} || exit 1; done
	install -D -m 0644 dist/tmpfiles.d/rkt.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/rkt.conf
	install -D -m 0644 dist/sysusers.d/rkt.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/rkt.conf
	install -m 0644 $(BIN)/share/man/*.1 $(SHARE)/man/man1/
	install -D -m 0644 $(BIN)/share/completion.bash $(SHARE)/bash-completion/completions/rkt
	install -D -m 0644 $(BIN)/share/completion.zsh $(SHARE)/zsh/site-functions/_rkt
	install -D -m 0644 $(BIN)/share/completion.fish $(SHARE)/fish/vendor_completions.d/rkt.fish
	install -D -m 0644 LICENSE $(SHARE)/doc/rkt/LICENSE
	install -m 0644 CHANGELOG.md $(BIN)/share/third-party-licences $(SHARE)/doc/rkt/

.PHONY: deb
deb: ## a Debian package, $(DEB)
	rm -rf $(BIN)/tree
	$(MAKE) --no-print-directory install BIN=$(BIN) VERSION='$(VERSION)' DESTDIR=$(BIN)/tree PREFIX=/usr
	mv $(BIN)/tree/usr/share/zsh/site-functions $(BIN)/tree/usr/share/zsh/vendor-completions
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) dist/deb/build $(BIN)/tree '$(VERSION)' $(DEB)
	rm -rf $(BIN)/tree
