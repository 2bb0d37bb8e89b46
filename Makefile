# Everything a developer or CI does. `make` alone lists it; `check` never writes, `fix` does.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CARGO ?= cargo
DEV_SECONDS ?=
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust benches/load -name '*.rs' -o -name 'Cargo.toml')

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# --- Set-up -------------------------------------------------------------------------------------

# The virtual environment from the hashed lock.
$(VENV)/.installed: requirements/dev.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	touch $@

# The package, editable, with a release build of the core.
$(VENV)/.built: $(VENV)/.installed pyproject.toml $(RUST_SOURCES)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: build
build: $(VENV)/.built ## Set up the virtual environment and build the core into it

# --- The two README commands --------------------------------------------------------------------

.PHONY: dev
dev: build ## Set all up and run the main job: a server, three workers, a live table (DEV_SECONDS=N stops by itself)
	$(BIN)/zlayerd dev $(if $(DEV_SECONDS),--seconds $(DEV_SECONDS))

.PHONY: test
test: build ## Set all up and pass the tests
	$(CARGO) test --quiet --locked
	$(BIN)/pytest -q

# --- Gates --------------------------------------------------------------------------------------

.PHONY: check
check: lint test ## Format, lint, types, architecture and tests; writes nothing

.PHONY: lint
lint: build ## The part of check that runs no tests
	$(CARGO) fmt --all --check
	$(BIN)/typos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/layers.py
	$(BIN)/python tools/gen_protos.py --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest zlayer_native._native
	$(CARGO) clippy --quiet --locked --workspace --all-targets -- -D warnings

.PHONY: fix
fix: $(VENV)/.installed ## Format and apply the safe fixes
	$(CARGO) fmt --all
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .
	$(BIN)/typos --write-changes

.PHONY: protos
protos: $(VENV)/.installed ## Regenerate the protobuf code of both languages
	$(BIN)/python tools/gen_protos.py

.PHONY: lock
lock: $(VENV)/.installed ## Lock the Python dependencies again (needs uv)
	uv pip compile --quiet pyproject.toml --group dev --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o requirements/dev.lock
	uv pip compile --quiet --group bench --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o requirements/bench.lock

# --- Long runs and benchmarks -------------------------------------------------------------------

.PHONY: test-slow
test-slow: build ## The tests that take minutes: long pauses, 10,000 workers, long simulations
	$(BIN)/pytest -q -m slow --override-ini timeout=1200
	$(CARGO) run --quiet --release --locked -p zlayer-sim -- --seed 1 --workers 10000 --hours 24

.PHONY: bench
bench: build ## pytest-benchmark and criterion suites
	$(BIN)/pytest -q benches --benchmark-only
	$(CARGO) bench --locked -p zlayer-core

.PHONY: bench-compare
bench-compare: build ## The same heartbeats against etcd-server and a plain grpcio server, in one run
	$(BIN)/python benches/peers/compare.py

# PySyncObj is here alone, and of no use to anybody else.
$(VENV)/.bench-installed: $(VENV)/.installed requirements/bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/bench.lock
	touch $@

.PHONY: bench-raft-compare
bench-raft-compare: build $(VENV)/.bench-installed ## The same commits and leader kills on etcd and PySyncObj, in one run
	$(BIN)/python benches/peers/raft.py

.PHONY: wheel
wheel: $(VENV)/.installed ## Build the wheel and the sdist into dist/
	$(BIN)/maturin build --locked --profile dist --sdist --out dist
