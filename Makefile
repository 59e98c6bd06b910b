# slurmk8s: `make help` lists what there is to make.
#
# Installed layout, below PREFIX: bin/slurmk8s, lib/libslurmk8s.so,
# lib/slurmk8s_lua.so, share/burst_buffer.lua, share/job_submit.lua, share/bundles and, where
# Slurm's headers are, lib/slurmk8s_spank.so; and slurmk8s.toml and a link to burst_buffer.lua in
# SYSCONFDIR.

PREFIX     ?= /opt/slurmk8s
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
SHAREDIR   ?= $(PREFIX)/share
SYSCONFDIR ?= /etc/slurm
STATEDIR   ?= /var/spool/slurmk8s
DESTDIR    ?=

VERSION := 0.1.0
SLURM_RELEASES := 22.05 24.11 26.05
GO      ?= go
LUA_INCLUDE ?= /usr/include/lua5.1
# The api tier runs against KUBERNETES=MINOR, by default that of the test cluster; these are known.
KUBERNETES_1.33 := v1.33.13
KUBERNETES_1.34 := v1.34.4
ifdef KUBERNETES
export KUBERNETES_VERSION := $(or $(KUBERNETES_$(KUBERNETES)),$(error KUBERNETES=$(KUBERNETES): say 1.33 or 1.34, or KUBERNETES_VERSION=v1.X.Y))
endif
# The directory that has slurm/spank.h of the Slurm that is installed (Debian: libslurm-dev).
SLURM_INCLUDE ?= /usr/include

B := build
MODULE  := slurmk8s.io/slurmk8s
LDFLAGS := -s -w -buildid= -X $(MODULE)/bridge/version.Version=$(VERSION) \
	-X $(MODULE)/slurmconf.sysconfdir=$(SYSCONFDIR) -X $(MODULE)/slurmconf.statedir=$(STATEDIR) \
	-X $(MODULE)/slurmconf.sharedir=$(SHAREDIR)
# client-go speaks HTTP/2 by golang.org/x/net: net/http's own copy of it (0.3 MB) is left out.
TAGS := nethttpomithttp2
# Not ":=": "make deps" may install the compiler first.
HARDENED_CFLAGS  = $(shell packaging/hardening.sh cflags $(CC))
HARDENED_LDFLAGS = $(shell packaging/hardening.sh ldflags $(CC))
CFLAGS = -std=gnu11 -O2 -g -fPIC -Wall -Wextra -Werror -fvisibility=hidden -ffile-prefix-map=$(CURDIR)=. $(HARDENED_CFLAGS)

GO_SOURCES := $(shell find bridge slurmconf packaging/manifests \( -name '*.go' -o -name '*.yaml' \) -not -name '*_test.go' 2>/dev/null) go.mod go.sum

# What is built again when a directory or the version is given another value.
SETTINGS := $(B)/settings
$(shell mkdir -p $(B); echo '$(VERSION) $(BINDIR) $(LIBDIR) $(SHAREDIR) $(SYSCONFDIR) $(STATEDIR)' >$(SETTINGS).new; \
	cmp -s $(SETTINGS).new $(SETTINGS) && rm $(SETTINGS).new || mv $(SETTINGS).new $(SETTINGS))

.DELETE_ON_ERROR:
.PHONY: all spank help deps lint licences vulncheck test test-unit test-c test-api test-faults test-e2e test-releases test-packages test-all packages \
	flaky fuzz demo bench cluster cluster-down install clean

## all: build the program, the library and the Lua module into build/
all: $(B)/bin/slurmk8s $(B)/lib/libslurmk8s.so $(B)/lib/slurmk8s_lua.so $(B)/etc/burst_buffer.lua $(B)/etc/job_submit.lua

help:
	@echo "make WHAT, where WHAT is:"
	@sed -n 's/^## \([a-z-]*\): /  \1\t/p' Makefile | expand -t 16

## deps: install what building and testing need (apt, as root), or say what is missing
deps:
	@tests/deps.sh

$(B)/bin/slurmk8s: $(GO_SOURCES) $(SETTINGS)
	@mkdir -p $(@D)
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $@ ./bridge/cmd/slurmk8s

$(B)/lib/libslurmk8s.so: $(GO_SOURCES) $(wildcard goffi/*.go goffi/*.c goffi/*.h goffi/*.map) packaging/hardening.sh $(SETTINGS)
	@mkdir -p $(@D) $(B)/include
	CGO_ENABLED=1 CGO_CFLAGS='-O2 -g $(HARDENED_CFLAGS)' $(GO) build -trimpath -tags $(TAGS) -buildmode=c-shared \
		-ldflags '$(LDFLAGS) -X main.version=$(VERSION) -extldflags "$(HARDENED_LDFLAGS) -Wl,--version-script=$(CURDIR)/goffi/slurmk8s.map"' \
		-o $@ ./goffi
	@mv $(B)/lib/libslurmk8s.h $(B)/lib/.cgo.h 2>/dev/null; rm -f $(B)/lib/.cgo.h; cp goffi/slurmk8s.h $(B)/include/

$(B)/lib/slurmk8s_lua.so: $(wildcard lua/*.[ch] goffi/shim/*.[ch]) goffi/slurmk8s.h packaging/hardening.sh
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -I$(LUA_INCLUDE) -shared -Wl,-z,nodelete $(HARDENED_LDFLAGS) -o $@ $(filter %.c,$^) -ldl

$(B)/etc/%.lua: lua/%.lua.in Makefile $(SETTINGS)
	@mkdir -p $(@D)
	sed -e 's|@BINDIR@|$(BINDIR)|g; s|@LIBDIR@|$(LIBDIR)|g; s|@SHAREDIR@|$(SHAREDIR)|g; s|@SYSCONFDIR@|$(SYSCONFDIR)|g; s|@STATEDIR@|$(STATEDIR)|g; s|@VERSION@|$(VERSION)|g' $< > $@

## spank: the SPANK plugin, for each Slurm release of the test cluster (needs Slurm's headers)
spank: $(foreach r,$(SLURM_RELEASES),$(B)/lib/spank-$(r)/slurmk8s_spank.so)

SPANK_SOURCES := $(wildcard spank/*.c spank/*.h spank/*.map spank/build.sh goffi/shim/*.[ch] goffi/slurmk8s.h packaging/hardening.sh) $(SETTINGS)

$(B)/lib/spank-%/slurmk8s_spank.so: $(SPANK_SOURCES)
	BINDIR=$(BINDIR) LIBDIR=$(LIBDIR) SYSCONFDIR=$(SYSCONFDIR) CC=$(CC) spank/build.sh $(@D) $*

# For the Slurm whose headers there are: it loads no plugin of another release.
$(B)/lib/slurmk8s_spank.so: $(SPANK_SOURCES)
	BINDIR=$(BINDIR) LIBDIR=$(LIBDIR) SYSCONFDIR=$(SYSCONFDIR) SLURM_INCLUDE=$(SLURM_INCLUDE) CC=$(CC) spank/build.sh $(@D)

INSTALLED_SPANK := $(if $(wildcard $(SLURM_INCLUDE)/slurm/spank.h),$(B)/lib/slurmk8s_spank.so)

## install: copy into DESTDIR; existing configuration is kept
install: all $(INSTALLED_SPANK)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR) $(DESTDIR)$(SHAREDIR) $(DESTDIR)$(SYSCONFDIR)
	install -m 0755 $(B)/bin/slurmk8s $(DESTDIR)$(BINDIR)/
	install -m 0644 $(B)/lib/libslurmk8s.so $(B)/lib/slurmk8s_lua.so $(INSTALLED_SPANK) $(INSTALLED_SPANK:_spank.so=_nodes_spank.so) $(INSTALLED_SPANK:_spank.so=_noepilog_spank.so) $(DESTDIR)$(LIBDIR)/
	@$(if $(INSTALLED_SPANK),,echo "No $(SLURM_INCLUDE)/slurm/spank.h: the SPANK plugin (--k8s-register) was not built")
	install -m 0644 $(B)/etc/job_submit.lua $(B)/etc/burst_buffer.lua $(DESTDIR)$(SHAREDIR)/
	for dir in packaging/bundles/*; do \
		install -d $(DESTDIR)$(SHAREDIR)/bundles/$${dir##*/} && install -m 0644 $$dir/* $(DESTDIR)$(SHAREDIR)/bundles/$${dir##*/}/ || exit; \
	done
	@packaging/link-script.sh $(SHAREDIR)/burst_buffer.lua $(DESTDIR)$(SYSCONFDIR)/burst_buffer.lua
	test -e $(DESTDIR)$(SYSCONFDIR)/slurmk8s.toml || install -m 0644 packaging/slurmk8s.toml $(DESTDIR)$(SYSCONFDIR)/
	@echo "Next: the state directory, owned by SlurmUser: install -d -o slurm -m 0700 $(STATEDIR)"

## packages: deb and rpm for amd64 and arm64 in build/packages (a client package for each Slurm)
packages:
	VERSION=$(VERSION) SLURM_RELEASES="$(SLURM_RELEASES)" SYSCONFDIR=$(SYSCONFDIR) packaging/build.sh

## test-packages: install, run jobs, upgrade while they run, remove, on each Slurm release
test-packages: packages cluster
	set -e; for page in $(B)/packaging/$(VERSION)/stage/all/man/man?/*; do gzip -dc $$page | mandoc -Tlint -Wwarning; done
	packaging/chroot.sh tests/packages/elf.sh $$(find $(B)/packaging/$(VERSION)/stage -name '*.so')
	VERSION=$(VERSION) SLURM_RELEASES="$(SLURM_RELEASES)" tests/packages/bullseye.sh
	VERSION=$(VERSION) SLURM_RELEASES="$(SLURM_RELEASES)" tests/packages/rpm.sh
	VERSION=$(VERSION) SLURM_RELEASES="$(SLURM_RELEASES)" tests/packages/run.sh

## lint: warnings of every language's checker, as errors
lint:
	@tests/lint.sh

## licences: those of all modules that are linked in, against a list of allowed ones
licences:
	@$(GO) run ./packaging/modules ./bridge/cmd/slurmk8s ./goffi

## vulncheck: known vulnerabilities in code that is reached (needs https://vuln.go.dev, or VULNDB=URL)
vulncheck:
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 $(if $(VULNDB),-db=$(VULNDB)) ./bridge/cmd/slurmk8s ./goffi

# RUN=NAMES: only the tests of these names (a regular expression), in all targets that are Go's.
GO_TEST = $(GO) test $(if $(RUN),-run '^($(RUN))$$')

## test: everything that CI runs: lint, unit, C and Lua, api, faults, e2e on one Slurm
test: deps lint test-unit test-c test-api test-faults test-e2e

## test-unit: Go unit tests, with the race detector
test-unit:
	$(GO_TEST) -short -race ./bridge/... ./slurmconf/... ./packaging/... ./tests/...

## test-c: the C boundary, the Lua shim and the SPANK plugin
test-c: all
	goffi/test/run.sh $(CURDIR)/$(B)/lib/libslurmk8s.so
	lua/test/run.sh
	spank/test/run.sh

## test-api: the hooks against a real etcd and API server on loopback (KUBERNETES=1.33: another minor; DWS=external KUBECONFIG=FILE: an installed DWS)
ifeq ($(DWS),external)
test-api:
	DWS=external KUBECONFIG=$(abspath $(KUBECONFIG)) $(GO_TEST) -count=1 -timeout 60m -v ./tests/api/...
else
test-api: all
	tests/kubernetes/build.sh etcd kube-apiserver kube-controller-manager
	$(GO_TEST) -timeout 30m ./tests/apiserver/... ./tests/dwssim/... ./tests/api/... ./tests/services/... ./tests/bundles/... ./tests/nodes/... ./tests/setup/...
endif

## test-faults: every fault at every API request of every hook
test-faults: all
	tests/kubernetes/build.sh etcd kube-apiserver
	SLURMK8S_PROGRAM=$(CURDIR)/$(B)/bin/slurmk8s FAULTS_REPORT=$(CURDIR)/$(B)/faults.txt \
		$(GO_TEST) -count=1 -timeout 60m -v ./tests/faults/...
	@tail -1 $(B)/faults.txt

## test-e2e: real Slurm and real Kubernetes (SLURM_RELEASE=bookworm|trixie|forky)
test-e2e: cluster
	$(GO_TEST) -count=1 -timeout 90m -v ./tests/e2e
	lua/test/slurm_test.sh $${SLURM_RELEASE:-bookworm}

## test-releases: test-e2e on the other Slurm releases, and the shims on each
test-releases: cluster
	tests/e2e/releases.sh
	lua/test/slurm_test.sh trixie forky
	spank/test/slurm_test.sh bookworm trixie forky

## test-all: test, the other Slurm releases, and the packages on all
test-all: test test-releases test-packages

## flaky: run suites N times (default 20; WHAT="api faults e2e") and print a table of failures
flaky: N = 20
flaky: WHAT = api faults e2e
flaky: deps
	tests/flaky.sh $(N) $(WHAT)

## fuzz: fuzz every parser for FUZZTIME (default 30s) each
fuzz:
	@tests/fuzz.sh $(FUZZTIME)

## cluster: bring up kind and dockerized Slurm, or reuse what is up
cluster: deps all spank
	tests/cluster/up.sh

## cluster-down: remove them
cluster-down:
	tests/cluster/down.sh

## demo: a job with #DW lines through all seven states, on the cluster
demo: cluster
	tests/demo/demo.sh

## bench: figures beside the kubectl way, into tests/bench/results.json
bench: all
	tests/bench/run.sh

## clean: remove build/ (caches of images and Kubernetes are kept)
clean:
	rm -rf $(B)
