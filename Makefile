# SPDX-License-Identifier: Apache-2.0
# Everything a developer types. `make` alone prints the targets; ARGS="..." is handed on to what a target runs.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN    := $(VENV)/bin
DEBIAN := $(VENV)/stamp-debian
READY  := $(VENV)/stamp-python

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help deps demo run test test-long innocent fuzz test-ovs-matrix bench lint format docs clean
.DELETE_ON_ERROR:

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: $(READY) ## install what is missing: Debian's packages, and the virtual environment in .venv

demo: deps ## four real PMD threads in a sandbox: one is held, seen, and let go (30 s)
	$(BIN)/python -m ovs_keepalive.demo $(ARGS)

run: deps ## watch this host's own Open vSwitch, in the foreground
	$(BIN)/ovs-keepalive run $(ARGS)

test: deps ## all tests but the long ones, on real Open vSwitch daemons (up to 10 min)
	$(BIN)/python -m pytest -m "not long" $(ARGS)

test-long: deps ## the long tests: every fault at every interval
	$(BIN)/python -m pytest -m long $(ARGS)

innocent: deps ## innocent events at random, none of which may raise an alarm (2 min; ARGS="--seconds 7200 --events 1000")
	$(BIN)/python -m tests.faults.innocent $(ARGS)

fuzz: deps ## hostile bytes into every decoder, until none shows new coverage for 10 min (hours; ARGS="--seconds 60")
	$(BIN)/python -m tests.fuzz $(ARGS)

test-ovs-matrix: deps ## as root: faults and innocent events on the Open vSwitch of Debian trixie and sid, in chroots (10 min)
	VENV="$(VENV)" tests/matrix/run $(ARGS)

bench: deps ## print what a look costs, and what Open vSwitch pays
	$(BIN)/python tests/bench/run.py $(ARGS)

lint: deps ## ruff, mypy --strict, and the floors of the house (import-linter)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

format: deps ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: deps ## write docs/states.md anew from the code
	$(BIN)/python docs/generate_states.py > docs/states.md

clean: ## remove .venv, caches and builds (Debian's packages stay)
	rm -rf $(VENV) build dist .benchmarks .fuzz .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find ovs_keepalive tests -name __pycache__ -prune -exec rm -rf {} +

# Done once; the first again when the list of packages changes, the second when pyproject.toml does.
$(DEBIAN): .ci/debian
	@PYTHON="$(PYTHON)" .ci/debian
	@mkdir -p $(VENV) && touch $@

$(READY): pyproject.toml | $(DEBIAN)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
