# Works in a fresh clone: the first target that needs it makes the environment, in .venv.
PYTHON ?= python3
BIN := .venv/bin
POSTGRES := src/faregate/adapters/postgres
QUERIES := $(filter-out $(POSTGRES)/bootstrap.sql,$(wildcard $(POSTGRES)/*.sql))
MIGRATIONS := $(POSTGRES)/bootstrap.sql $(wildcard $(POSTGRES)/migrations/*.sql)
SCRIPTS := build/lua
COMPILE := build/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --quiet
LOCK := $(COMPILE) pyproject.toml

# Each command and worker of a test starts faster when it finds its modules compiled.
unexport PYTHONDONTWRITEBYTECODE
.DELETE_ON_ERROR:
.PHONY: demo test test-long test-cluster test-servers test-install soak bench bench-quick bench-parts bench-drain bench-history bench-reconcile bench-orders bench-primaries scale picture reference docs test-docs schema check fmt lock dist sbom clean

# A few thousand requests of several kinds of users, and the proof that every credit is accounted for.
demo: .venv/ready
	$(BIN)/faregate demo

# The tests but the long ones, or those that TESTS names, on servers that come with the environment. Each
# worker has its own.
TESTS ?=
# Tests wait for processes and servers about a third of their time, so three keep two processors busy.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
test: .venv/ready
	$(PYTEST) $(or $(TESTS),-m "not long and not cluster")

# The long tests, such as kills, storms, outages and replays under load, in some ten minutes.
test-long: .venv/ready
	$(PYTEST) -m "long and not cluster"

# Clusters and sentinels whose primaries are killed, on Valkey and then on Debian's Redis, in some twenty
# minutes. `make test-cluster CLUSTER_TESTS="cluster and not long" SERVERS=embedded` runs the short ones.
CLUSTER_TESTS ?= cluster
SERVERS ?= embedded debian
test-cluster: .venv/ready
	for servers in $(SERVERS); do \
	  FAREGATE_TEST_SERVERS=$$servers $(PYTEST) --numprocesses 2 -m "$(CLUSTER_TESTS)" tests || exit 1; \
	done

# All tests, or those that TESTS names, on Debian's redis-server, PostgreSQL and nginx, which have to
# be installed.
test-servers: .venv/ready
	FAREGATE_TEST_SERVERS=debian $(PYTEST) $(TESTS)

# The README's first five minutes in a new environment, with all that pip downloads for it.
test-install: .venv/ready
	FAREGATE_TEST_INSTALL=1 $(BIN)/python -m pytest -s tests/e2e/test_dev.py -k readme

# What takes long, in about an hour: all operations in 2,000 random orders, on Redis and on its
# specification in memory at once; 1,000 rounds of kill -9; a storm of 5,000 callers; calls, accounts
# and keys with each byte damaged in turn; clocks that step; and replays of much data. It says how far
# it is, and in the end what it has come upon. The command that is shown names the seed of the orders,
# and `make soak SEED=...` plays the same ones again; SEQUENCES=500 makes a quarter of orders, rounds and
# callers.
SEED ?= $(shell date +%s)
SEQUENCES ?= 2000
SOAKED := tests/contract/test_machine.py tests/integration/test_spend_bytes.py \
	tests/integration/test_clocks_apart.py tests/e2e
soak: .venv/ready
	FAREGATE_TEST_SOAK=$(SEQUENCES) $(PYTEST) -s --hypothesis-seed=$(SEED) $(SOAKED)

# Faregate beside a bare script call and its peers, on Debian's redis-server; the whole takes about
# twenty minutes and writes docs/performance.md. `make bench ONLY=overload` runs one scenario.
ONLY ?=
BENCH := PYTHONPATH=src:worker build/bench/bin/python -m benchmarks
bench: build/bench/ready
	$(BENCH) $(ONLY:%=--only %)

bench-quick: build/bench/ready
	$(BENCH) --quick $(ONLY:%=--only %)

# Where the processor time of a request goes.
bench-parts: build/bench/ready
	PYTHONPATH=src:worker build/bench/bin/python -m benchmarks.parts

# How fast records become rows, beside a raw COPY of the same rows into the same table, with a profile.
bench-drain: .venv/ready
	$(BIN)/python -m benchmarks.drain

# The newest rows of a user with a million of ten million rows, as that user, with the plan. It takes some
# minutes and 4 GB; HISTORY_ROWS=1000000 for less.
HISTORY_ROWS ?= 10000000
bench-history: .venv/ready
	$(BIN)/python -m benchmarks.history --rows $(HISTORY_ROWS)

# How long reconcile, verify and rebuild take, and how much memory, for 10 k to 1 M users with five rows each,
# on Debian's redis-server and PostgreSQL.
bench-reconcile: .venv/ready
	$(BIN)/python -m benchmarks.reconcile

# How long credits that SQL has ordered take to be usable.
bench-orders: .venv/ready
	$(BIN)/python -m benchmarks.orders

# What a decision costs on one server, and on one to three primaries of a cluster, on Debian's
# redis-server, in some minutes; it writes benchmarks/primaries.json and the tables of docs/scale.md.
bench-primaries: .venv/ready
	PYTHONPATH=src:worker $(BIN)/python -m benchmarks.primaries
	PYTHONPATH=src:worker $(BIN)/python -m benchmarks.scale --write docs/scale.md

# What a ledger of some size needs: `make scale SCALE="--decisions 200000 --rows 1e9 --shards 96"`.
SCALE ?=
scale: .venv/ready
	@PYTHONPATH=src:worker $(BIN)/python -m benchmarks.scale $(SCALE)

# The picture in the README: what the test of the README's first screen saw.
picture: .venv/ready
	FAREGATE_TEST_WRITE_PICTURE=1 $(BIN)/python -m pytest tests/e2e/test_dev.py -k readme

# The pages of reference in docs/, from settings, commands and metrics.
reference: .venv/ready
	FAREGATE_TEST_WRITE=1 $(BIN)/python -m pytest tests/test_reference.py tests/integration/test_deploy.py

# The documentation as a site, in build/site; any static server serves it, and a browser opens its files.
SITE := PYTHONPATH=src:worker build/docs/bin/python -m
docs: build/docs/ready
	$(SITE) website

# The site in a real browser, which has to be installed.
test-docs: build/docs/ready
	$(SITE) pytest -c website/tests/pytest.toml website/tests

# After a change of migrations: writes down what they make, which `faregate verify` compares with.
schema: .venv/ready
	FAREGATE_TEST_WRITE_SCHEMA=1 $(BIN)/python -m pytest tests/integration/test_schema_facts.py

# Format, style, types, layers, Lua, queries, migrations, workflows.
check: .venv/ready
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	@command -v luacheck >/dev/null || { echo "make check: luacheck is missing; on Debian and Ubuntu: apt-get install lua-check" >&2; exit 1; }
	rm -rf $(SCRIPTS)
	$(BIN)/python -c 'import pathlib; from faregate.adapters.redis.scripts import dump; dump(pathlib.Path("$(SCRIPTS)"))'
	luacheck --no-color $(SCRIPTS)
	$(BIN)/sqlfluff lint $(QUERIES)
	$(BIN)/squawk $(MIGRATIONS)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

fmt: .venv/ready
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/sqlfluff fix --quiet $(QUERIES)

# Locks for development (everything), for the image (what an API and a worker need), for benchmarks, for
# the site, for the SBOM.
lock: build/lock/ready
	$(LOCK) --all-extras --group dev --output-file requirements-dev.txt
	$(LOCK) --extra worker --extra cli --constraint requirements-dev.txt --output-file requirements.txt
	$(LOCK) benchmarks/requirements.in --extra cli --extra embedded --constraint requirements-dev.txt --output-file benchmarks/requirements.txt
	$(LOCK) website/requirements.in --extra worker --extra jwt --extra cli --extra metrics --constraint requirements-dev.txt --output-file website/requirements.txt
	$(COMPILE) --group pyproject.toml:release --output-file requirements-release.txt

# What is published, in dist/, and the tests of it.
dist: .venv/ready
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	FAREGATE_TEST_DIST=dist $(BIN)/python -m pytest tests/test_packaging.py

# What the image consists of, with licenses and dependencies, as CycloneDX; valid by its schema.
sbom: .venv/ready build/release/ready
	rm -rf build/image build/sbom
	$(PYTHON) -m venv --without-pip build/image
	$(BIN)/python -m pip --python build/image/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m hatchling build -t wheel -d build/image/wheel
	$(BIN)/python -m pip --python build/image/bin/python install --quiet --disable-pip-version-check --no-deps --no-index build/image/wheel/*.whl
	mkdir build/sbom
	build/release/bin/cyclonedx-py environment --pyproject pyproject.toml --spec-version 1.6 --output-reproducible --validate --output-file build/sbom/faregate.cdx.json build/image/bin/python

clean:
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

.venv/ready: requirements-dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) here; name a Python 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version); name another: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The peers' environment, apart from that of development: they are no dependencies of anything here.
build/bench/ready: benchmarks/requirements.txt
	$(PYTHON) -m venv --clear build/bench
	build/bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.txt
	@touch $@

build/release/ready: requirements-release.txt
	$(PYTHON) -m venv --clear build/release
	build/release/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-release.txt
# What builds the site and tests it, apart from the environment of development, too.
build/docs/ready: website/requirements.txt
	$(PYTHON) -m venv --clear build/docs
	build/docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r website/requirements.txt
	@touch $@

build/lock/ready:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@touch $@
