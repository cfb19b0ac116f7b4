# The two commands of a new machine: `make run` and `make test`. Each makes .venv/ when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes of tests: many of them wait for other processes.
JOBS ?= 2

.PHONY: run test soak check lint types contracts format clean

run: $(STAMP)
	$(BIN)/evdistill demo

test: check
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not soak"

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak

check: lint types contracts

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

$(STAMP): constraints.txt setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt pip setuptools wheel
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e ".[dds,train,test]"
	touch $@

# The demo recording is committed; this makes it anew from its source (see demo/README.md).
DATA := $(or $(EVDISTILL_TEST_DATA),../shared/data)
demo/davis346_street.mcap: | $(STAMP)
	$(BIN)/evdistill convert $(DATA)/recordings/davis346_street_frames.aedat4 $@ --frame-step 2

clean:
	rm -rf $(VENV) out build install log
