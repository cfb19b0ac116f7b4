# The two commands of a new machine: `make run` and `make test`. Each makes .venv/ when it is missing
# and installs what it needs and no more.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -c constraints.txt
# Stamps: what is installed already.
DEMO := $(VENV)/.installed-demo
ALL := $(VENV)/.installed-all
# Processes of tests. The order is that of test/conftest.py.
JOBS ?= 2

.PHONY: run test soak check lint types contracts format docs clean

run: $(DEMO)
	$(BIN)/evdistill demo

test: $(ALL)
	$(MAKE) -j 2 check
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not soak"

soak: $(ALL)
	$(BIN)/python -m pytest -m soak

check: lint types contracts

lint: $(ALL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/check_language.py

types: $(ALL)
	$(BIN)/mypy

contracts: $(ALL)
	$(BIN)/lint-imports

# The pages of docs/ as a site in out/site/; a dead link is an error. Nothing is loaded from the network.
docs: $(ALL)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(ALL)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO): constraints.txt setup.py | $(BIN)/python
	@echo "Installing what the demo needs into $(VENV): 0.25 GB to download, 0.8 GB on disk, 1 to 2 minutes."
	$(PIP) -q pip setuptools wheel
	$(PIP) --no-build-isolation -e ".[dds,view]"
	touch $@

# The whole holds the demo's part, so it sets both stamps. It also completes what `make run` began.
# pip compiles the libraries on one processor. compileall takes all of them; some hold files for other versions of Python.
$(ALL): constraints.txt setup.py | $(BIN)/python
	@echo "Installing what the tests need into $(VENV), with torch: 0.6 GB to download," \
	  "2.4 GB on disk, 2 to 3 minutes (more where pip has torch only with CUDA)."
	$(PIP) -q pip setuptools wheel
	$(PIP) --no-compile --no-build-isolation -e ".[dds,view,train,test,docs]"
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true
	touch $(DEMO) $@

# The demo recording is committed; this makes it anew from its source (see demo/README.md).
DATA := $(or $(EVDISTILL_TEST_DATA),../shared/data)
demo/davis346_street.mcap: | $(DEMO)
	$(BIN)/evdistill convert $(DATA)/recordings/davis346_street_frames.aedat4 $@ --frame-step 2

clean:
	rm -rf $(VENV) out build install log
