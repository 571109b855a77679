# What a developer of pecsync types. A fresh Debian 12 with a Rust toolchain, make, a C compiler
# and root is enough: `demo` and `test` get the servers they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# End-to-end tests mostly wait for servers and clocks, so more of them run at once than there are
# processors.
TEST_THREADS ?= 8
# Of each fuzzer, as many of which run at once as there are processors.
SECONDS_PER_TARGET ?= 60

# Where the generic installation goes; DESTDIR= is put before all of it.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
ZSH ?= share/zsh/site-functions
TARGET := $(or $(CARGO_TARGET_DIR),target)
# What is installed: the program, and pages and completions made from its own definitions, with the
# date that the pages bear.
BINARY ?= $(TARGET)/release/pecsync
MANUAL ?= $(TARGET)/manual
DATE ?= $(shell git log -1 --format=%cs 2>/dev/null)

.PHONY: help build install deb deb-portal demo demo-portal test axe soak mutants fuzz fmt clippy doc bench many parts

help: ## shows this
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 16

build: ## builds target/release/pecsync, its manual pages and completions
	cargo build --release
	cargo run --release -p pecsync-manual -- $(MANUAL) $(DATE)

install: SHARE = $(DESTDIR)$(PREFIX)/share
install: LIB = $(DESTDIR)$(PREFIX)/lib
install: ETC = $(DESTDIR)$(SYSCONFDIR)/pecsync
install: INSTANCE = $(PREFIX)/bin/pecsync --config $(SYSCONFDIR)/pecsync/instances/%i/pecsync.toml
install: ## installs what was built: DESTDIR= PREFIX=/usr/local SYSCONFDIR=/etc
	@test -x $(BINARY) -a -d $(MANUAL) || { echo "Nothing is built yet: make build"; exit 1; }
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/pecsync
	install -d $(LIB)/systemd/{system,catalog} $(LIB)/{sysusers,tmpfiles}.d
	sed -e 's|/usr/bin/|$(PREFIX)/bin/|' -e 's|/etc/|$(SYSCONFDIR)/|' systemd/pecsync.service >$(LIB)/systemd/system/pecsync.service
	sed -e 's|^Description=.*|& %i|' -e 's|/etc/|$(SYSCONFDIR)/|' -e 's|^StateDirectory=.*|&/instances/%i|' \
	    -e 's|^ExecStart=.*|ExecStartPre=+install -d -o pecsync -g pecsync-admin -m 2750 /run/pecsync/%i\nExecStart=$(INSTANCE) run|' \
	    -e 's|^ExecReload=.*|ExecReload=$(INSTANCE) reload|' \
	    -e 's|/keys$$|/instances/%i/keys|' \
	    systemd/pecsync.service >$(LIB)/systemd/system/pecsync@.service
	install -m 644 systemd/*.catalog $(LIB)/systemd/catalog/
	install -m 644 systemd/pecsync.sysusers $(LIB)/sysusers.d/pecsync.conf
	install -m 644 systemd/pecsync.tmpfiles $(LIB)/tmpfiles.d/pecsync.conf
	install -d $(SHARE)/man/man{5,8}
	install -m 644 $(MANUAL)/*.5 $(SHARE)/man/man5/
	install -m 644 $(MANUAL)/*.8 $(SHARE)/man/man8/
	install -D -m 644 $(MANUAL)/pecsync.bash $(SHARE)/bash-completion/completions/pecsync
	install -D -m 644 $(MANUAL)/pecsync.fish $(SHARE)/fish/vendor_completions.d/pecsync.fish
	install -D -m 644 $(MANUAL)/_pecsync $(DESTDIR)$(PREFIX)/$(ZSH)/_pecsync
	install -d $(SHARE)/doc/pecsync/{monitoring,examples/{conf,migrations}.d}
	install -m 644 CHANGELOG.md LICENSE docs/*.md $(SHARE)/doc/pecsync/
	sed 's|](docs/|](|' README.md | install -m 644 /dev/stdin $(SHARE)/doc/pecsync/README.md
	sed -i -e 's|](../conf.d/|](examples/conf.d/|' -e 's|](../README|](README|' $(SHARE)/doc/pecsync/*.md
	install -m 644 docs/monitoring/* $(SHARE)/doc/pecsync/monitoring/
	install -m 644 docs/examples/*.toml $(SHARE)/doc/pecsync/examples/
	install -m 644 docs/examples/migrations.d/* $(SHARE)/doc/pecsync/examples/migrations.d/
	install -m 644 conf.d/*.example $(SHARE)/doc/pecsync/examples/conf.d/
	install -D -m 644 conf.d/README $(ETC)/conf.d/README
	@test -e $(ETC)/pecsync.toml || install -m 644 systemd/pecsync.toml $(ETC)/pecsync.toml

deb: build ## makes target/pecsync_VERSION_ARCHITECTURE.deb
	systemd/debian/build.sh $(TARGET) BINARY=$(BINARY) MANUAL=$(MANUAL)

deb-portal: ## makes target/pecsync-portal_VERSION_ARCHITECTURE.deb: the enrollment page
	cargo build --release -p pecsync-portal
	cargo run --release -p pecsync-manual -- $(MANUAL) $(DATE)
	systemd/debian/portal/build.sh $(TARGET) $(TARGET)/release/pecsync-portal $(MANUAL)/portal

demo: ## moves a mailbox between two real servers while you watch (at most two minutes after the build)
	@tests/demo/run.sh </dev/null

demo-portal: ## a mailbox is enrolled on the page and moves while you watch; DEMO_BY_HAND=1: by you
	@tests/demo/portal.sh </dev/null

test: ## all tests, those against real servers included
	@tests/support/install.sh
	@tests/support/run.sh --test-threads=$(TEST_THREADS)

axe: ## has axe-core look at each page of the enrollment, in a browser: AXE=axe.min.js (npm pack axe-core)
	@tests/support/install.sh
	PECSYNC_AXE=$(realpath $(AXE)) cargo test -p pecsync -p pecsync-portal --bin pecsync --test enrolling a_browser

fuzz: ## lets each fuzzer run for SECONDS_PER_TARGET=60, with the ordinary toolchain
	@SECONDS_PER_TARGET=$(SECONDS_PER_TARGET) fuzz/run.sh

soak: ## lives random simulated worlds until Ctrl-C, a line a minute; FIRST=N begins with that seed
	@PECSYNC_SOAK=1 PECSYNC_SIM_FIRST="$(FIRST)" cargo test --test sim soak -- --nocapture

mutants: ## breaks the product in one way after the other: simulated worlds must find each out
	@tests/mutants/run.sh

fmt: ## formats the code
	cargo fmt --all

clippy: ## lints, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

doc: ## builds the code's documentation, warnings are errors
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

bench: ## first copies and new mail beside peers and the ceiling: SETS=S,M,L RTTS=0,20 RUNS=3 TOOLS=… NEWS=10
	@tests/support/install.sh interimap
	SETS=$(SETS) RTTS=$(RTTS) RUNS=$(RUNS) TOOLS=$(TOOLS) NEWS=$(NEWS) cargo bench --bench peers

many: ## follows many accounts on one daemon and cuts them over: ACCOUNTS=10000 RATE=250 (logins a second) REFUSED_SECS=0
	ACCOUNTS=$(ACCOUNTS) RATE=$(RATE) PHASES=$(PHASES) REFUSED_SECS=$(REFUSED_SECS) cargo bench --bench many

parts: ## measures single parts: framing, decoding, planning, commits, listing, fetching, checkpoint, report
	cargo bench --bench parts
	cargo test --release --bench imap --bench checkpoint --bench report -- --nocapture --test-threads 1
