# The workbench's chores. `make` alone lists them; two of them are enough: `make report`, `make test`.
# Needs make and Python 3.11 or newer. Everything else goes into .venv, pinned and hashed by requirements.lock.

PYTHON ?= python3
VENV   ?= .venv
STORE  ?= data/traffic.duckdb
ARGS   ?=

BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Stays quiet, asks nothing, and takes the registry and certificates that pip is set up with on this machine.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(BIN)/python -m pip
UV  := $(BIN)/uv

# A virtual environment that another checkout has set up is set up anew: the project in it is that checkout.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
STALE := stale
endif

.PHONY: help venv spark milter sample report test lint bench gallery lab lock clean stale
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' Makefile | while read -r name text; do printf '  make %-8s%s\n' "$$name" "$$text"; done

venv: $(INSTALLED)  ## set up .venv from requirements.lock (PYTHON=python3.12 to choose, VENV=path to put it elsewhere)
	@:

$(INSTALLED): requirements.lock pyproject.toml $(STALE)
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=/path/to/python3" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (on Debian: python3-venv)" >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock (about 30 s)" >&2
	@# One that was moved here, or that uv made (it leaves no pip in those), is made anew.
	@{ grep -qs "$$(cd $(VENV) 2>/dev/null && pwd)" $(BIN)/pip && ! grep -qs '^uv = ' $(VENV)/pyvenv.cfg; } || $(PYTHON) -m venv --clear $(VENV)
	@# uv installs several times as fast as pip; where it cannot be had, pip does the same.
	@awk '/^[^ #]/ { mine = /^uv==/ } mine' requirements.lock >$(VENV)/uv.txt
	@index=$$($(PIP) config list | sed -n "s/^[^=]*[.]index-url='\(.*\)'\$$/\1/p" | tail -n 1); \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi; \
	$(PIP) install -qq --no-deps --require-hashes -r $(VENV)/uv.txt \
	&& $(UV) pip sync --python $(BIN)/python --quiet --compile-bytecode --require-hashes requirements.lock \
	|| { echo "going on without uv, which is slower (about 1 min)" >&2; \
	     $(PIP) install -qq --no-deps --require-hashes -r requirements.lock; }
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" >$@

spark: $(INSTALLED)  ## add PySpark (500 MB; needs Java 17) to .venv, for histories that outgrow one machine
	@echo "adding PySpark to $(VENV) from requirements-spark.lock (about 1 min)" >&2
	@# It comes as source: what builds it is pinned too, and goes first.
	@awk '/^[^ #]/ { mine = /^setuptools==/ } mine' requirements-spark.lock >$(VENV)/build.txt
	@$(PIP) install -qq --no-deps --require-hashes -r $(VENV)/build.txt
	@$(PIP) install -qq --no-deps --require-hashes --no-build-isolation -r requirements-spark.lock

milter: $(INSTALLED)  ## add the milter library to .venv (needs a C compiler and libmilter-dev), to answer Postfix in production
	@echo "adding pymilter to $(VENV) from requirements-milter.lock" >&2
	@awk '/^[^ #]/ { mine = /^setuptools==/ } mine' requirements-milter.lock >$(VENV)/build.txt
	@$(PIP) install -qq --no-deps --require-hashes -r $(VENV)/build.txt
	@$(PIP) install -qq --no-deps --require-hashes --no-build-isolation -r requirements-milter.lock

sample: $(STORE)

$(STORE): | $(INSTALLED)
	@echo "no mail history at $(STORE): making a sample of 1,000,000 messages" >&2
	@$(BIN)/enforcement sample --store $(STORE)

report: $(INSTALLED) $(STORE)  ## run the notebooks over data/traffic.duckdb (a sample, if there is none) and write the pages
	@$(BIN)/enforcement report --store $(STORE)

test: $(INSTALLED)  ## run all tests and doctests (ARGS=tests/test_builds.py for some)
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(INSTALLED)  ## check style, types, layers and that requirements.lock is what pyproject.toml asks for
	@failed=0; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	$(BIN)/python -m pytest tests/test_layers.py tests/test_project.py || failed=1; \
	exit $$failed

bench: $(INSTALLED)  ## measure what has to be fast, and how often forecasts hold (an hour; ARGS go to the kernel's part)
	@failed=0; \
	echo "== kernel"; $(BIN)/python tests/benchmarks/bench_kernel.py $(ARGS) || failed=1; \
	for what in mail rollout frontier patching targets milter; do \
		echo "== $$what"; PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench_$$what.py || failed=1; \
	done; \
	exit $$failed

gallery: $(INSTALLED)  ## make the pictures of the README anew, from the pages themselves (needs Chromium; 2 min)
	@$(BIN)/python tests/gallery.py $(ARGS)

lab: $(INSTALLED) $(STORE)  ## open JupyterLab on the designer, over data/traffic.duckdb (a sample, if there is none)
	@$(BIN)/enforcement lab

lock: $(INSTALLED)  ## derive the requirements*.lock from pyproject.toml, keeping what is pinned (ARGS=--upgrade to renew)
	@$(UV) pip compile --python $(BIN)/python --quiet pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header $(ARGS) -o requirements.lock
	@$(UV) pip compile --python $(BIN)/python --quiet --group spark --universal --python-version 3.11 --generate-hashes --no-header $(ARGS) -o requirements-spark.lock
	@$(UV) pip compile --python $(BIN)/python --quiet --group milter --universal --python-version 3.11 --generate-hashes --no-header $(ARGS) -o requirements-milter.lock

clean:  ## remove .venv and caches; data and reports stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
