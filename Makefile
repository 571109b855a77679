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

# Pages and completions, made from the program's own definitions, and the date they bear.
MANUAL ?= target/manual
DATE ?= $(shell git log -1 --format=%cs 2>/dev/null)

.PHONY: help build demo test soak mutants fuzz manual fmt clippy doc bench parts

help: ## shows this
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 16

build: ## builds target/release/pecsync
	cargo build --release

manual: ## writes manual pages and completions into target/manual
	cargo run --release --example manual -- $(MANUAL) $(DATE)

demo: ## moves a mailbox between two real servers while you watch (at most two minutes after the build)
	@tests/demo/run.sh </dev/null

test: ## all tests, those against real servers included
	@tests/support/install.sh
	@tests/support/run.sh --test-threads=$(TEST_THREADS)

fuzz: ## lets each fuzzer run for SECONDS_PER_TARGET=60, with the ordinary toolchain
	@SECONDS_PER_TARGET=$(SECONDS_PER_TARGET) fuzz/run.sh

soak: ## lives random simulated worlds until Ctrl-C, a line a minute; FIRST=N begins with that seed
	@PECSYNC_SOAK=1 PECSYNC_SIM_FIRST="$(FIRST)" cargo test --test sim soak -- --nocapture

mutants: ## breaks the product in one way after the other: simulated worlds must find each out
	@tests/mutants/run.sh

fmt: ## formats the code
	cargo fmt

clippy: ## lints, warnings are errors
	cargo clippy --all-targets -- -D warnings

doc: ## builds the code's documentation, warnings are errors
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

bench: ## first copies and new mail beside peers and the ceiling: SETS=S,M,L RTTS=0,20 RUNS=3 TOOLS=… NEWS=10
	@tests/support/install.sh interimap
	SETS=$(SETS) RTTS=$(RTTS) RUNS=$(RUNS) TOOLS=$(TOOLS) NEWS=$(NEWS) cargo bench --bench peers

parts: ## measures single parts: listing, fetching, checkpoint, report
	cargo test --release --bench imap --bench checkpoint --bench report -- --nocapture --test-threads 1
