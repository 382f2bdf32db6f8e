# The targets are exactly what CI runs; `make run` and `make test` need only Python 3.11 to 3.13, make and a C library.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check bench bench-web bench-kafka bench-drift soak fuzz kafka install clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "streamclust needs Python 3.11 to 3.13: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,umap,parquet,web,neuro,confluent,dev]'
	touch $@

install: $(STAMP)

# Real recordings through the daemon: a live table and the page. In a terminal the page stays until Ctrl-C.
run: $(STAMP)
	@if [ -t 1 ]; then $(BIN)/streamclust demo --serve; else $(BIN)/streamclust demo; fi

# All that CI runs.
test: check
	$(BIN)/python -m pytest -q

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Speed, with medians and ratios against the naive way; not part of the tests.
bench: $(STAMP)
	$(BIN)/python benchmarks/run.py

# The page with 100 000 windows, in a Chromium that is there already; it has to be full within a second.
bench-web: $(STAMP)
	$(BIN)/python benchmarks/web_page.py

# The same against a real broker; needs Java 17 and Maven, about 20 minutes.
bench-kafka: $(STAMP)
	$(BIN)/python benchmarks/kafka_speed.py
	$(BIN)/python benchmarks/kafka_latency.py

# Two workers on a real broker under faults and retrains, two and a half hours at 50 times real time; needs Java 17 and Maven. `make soak ARGS='--minutes 10'`.
soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py $(ARGS)

# Classes and signals that change over weeks; needs the extras train and bench, and the labelled windows.
bench-drift: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[train,bench]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/drift.py --out docs/quality.md

# A million hostile records.
fuzz: $(STAMP)
	STREAMCLUST_FUZZ_MUTANTS=1000000 $(BIN)/python -m pytest -q -s tests/signal/test_mseed_fuzz.py

# Apache Kafka on this machine, to play with; needs Java 17 and Maven. `make kafka ARGS='--nodes 3'`.
kafka: $(STAMP)
	$(BIN)/python tests/kafka/broker.py $(ARGS)

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .kafka
