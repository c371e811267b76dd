# SPDX-License-Identifier: Apache-2.0
# Everything a developer types. `make` alone prints the targets; ARGS="..." is handed on to what a target runs.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
PREFIX ?= /usr/local
MINUTES ?= 60

BIN    := $(VENV)/bin
DEBIAN := $(VENV)/stamp-debian
READY  := $(VENV)/stamp-python
PLACE   = $(DESTDIR)$(PREFIX)/lib/ovs-keepalive

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help deps demo demo-ports run test test-all test-long innocent soak fuzz test-ovs-matrix test-packages bench lint format docs \
        screenshots install uninstall deb clean
.DELETE_ON_ERROR:

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: $(READY) ## install what is missing: Debian's packages, and the virtual environment in .venv

demo: deps ## four real PMD threads in a sandbox: one is held, seen, and let go (30 s)
	$(BIN)/python -m ovs_keepalive.demo $(ARGS)

demo-ports: deps ## as root: a crash strands a VM on a dpdkvhostuser port, not one on dpdkvhostuserclient; real OVS-DPDK (2 min)
	$(BIN)/python -m tests.demo_ports $(ARGS)

run: deps ## watch this host's own Open vSwitch, in the foreground
	$(BIN)/ovs-keepalive run $(ARGS)

test: deps ## every part, on real Open vSwitch daemons (up to 10 min)
	$(BIN)/python -m pytest -m "not long and not slow" -n 2 --dist loadfile $(ARGS)

test-all: deps ## these and the slow ones, as CI runs them (40 min, with ARGS="-n 0" one after the other)
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile $(ARGS)

test-long: deps ## the long tests: every fault at every interval
	$(BIN)/python -m pytest -m long $(ARGS)

innocent: deps ## innocent events at random, none of which may raise an alarm (2 min; ARGS="--seconds 7200 --events 1000")
	$(BIN)/python -m tests.faults.innocent $(ARGS)

soak: deps ## events of every kind at a high rate, while the daemon is measured (MINUTES=60)
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(ARGS)

fuzz: deps ## hostile bytes into every decoder, until none shows new coverage for 10 min (hours; ARGS="--seconds 60")
	$(BIN)/python -m tests.fuzz $(ARGS)

test-ovs-matrix: deps ## as root: faults and innocent events on the Open vSwitch of Debian trixie and sid, in chroots (10 min)
	VENV="$(VENV)" tests/matrix/run $(ARGS)

test-packages: deps ## as root: wheel and Debian package, installed, run, upgraded and purged in a chroot (5 min)
	VENV="$(VENV)" tests/packages/run $(ARGS)

bench: deps ## print what a look and a scrape cost, and what Open vSwitch pays
	$(BIN)/python tests/bench/run.py $(ARGS)

lint: deps ## ruff, mypy --strict, and the floors of the house (import-linter)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

format: deps ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: deps ## write what is generated anew from the code: states, metrics, dashboard, man pages, completion
	$(BIN)/python docs/generate_states.py > docs/states.md
	$(BIN)/python docs/generate_metrics.py > docs/metrics.md
	$(BIN)/python docs/generate_dashboard.py > ovs_keepalive/share/grafana/ovs-keepalive.json
	$(BIN)/python -m docs.generate_share ovs_keepalive/share

screenshots: deps ## take the pictures of the node's page in docs/images anew (1 min)
	$(BIN)/python -m docs.capture_page docs/images

install: ## as root: an environment in PREFIX/lib (/usr/local), command, unit, man pages (EXTRAS=fleet,web,cli); honours DESTDIR
	$(PYTHON) -m venv --clear "$(PLACE)"
	"$(PLACE)/bin/python" -m pip install --quiet --no-compile ".$(if $(EXTRAS),[$(EXTRAS)])"
	"$(PLACE)/bin/python" -m pip uninstall --quiet --yes pip setuptools
	cd "$(PLACE)" && rm -rf include share && find bin -type f ! -name ovs-keepalive -delete
	find "$(PLACE)/lib" -name direct_url.json -delete # tells where this checkout lies
	sed -i '/^command = /d' "$(PLACE)/pyvenv.cfg"
	sed -i '1s,.*,#!$(PREFIX)/lib/ovs-keepalive/bin/python3,' "$(PLACE)/bin/ovs-keepalive"
	find "$(PLACE)" -name __pycache__ -prune -exec rm -rf {} +
	"$(PLACE)/bin/python" -m compileall -q $(if $(DESTDIR),-s "$(abspath $(DESTDIR))" -p /) "$(abspath $(PLACE))/lib"
	install -d "$(DESTDIR)$(PREFIX)/bin"
	ln -sfn ../lib/ovs-keepalive/bin/ovs-keepalive "$(DESTDIR)$(PREFIX)/bin/ovs-keepalive"
	cd / && "$(abspath $(PLACE))/bin/python" -B -m ovs_keepalive install --systemd --prefix "$(PREFIX)" \
	    $(if $(DESTDIR),--root "$(abspath $(DESTDIR))") $(ARGS)

uninstall: ## as root: take away what `make install` put in place
	cd / && "$(abspath $(PLACE))/bin/python" -B -m ovs_keepalive uninstall --prefix "$(PREFIX)" \
	    $(if $(DESTDIR),--root "$(abspath $(DESTDIR))")
	rm -rf "$(PLACE)" "$(DESTDIR)$(PREFIX)/bin/ovs-keepalive"

deb: ## build a Debian package for this Debian in dist/ (ARGS=2: its revision)
	debian/build $(ARGS)

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
