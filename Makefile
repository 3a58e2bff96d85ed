# `make demo` and `make test` need only Python 3.11 or later: they make .venv once, from constraints.txt.
# `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# COMPARE=1 also installs PyTorch, torchrecurrent, JAX, ONNX, ONNX Runtime and Keras, which some tests and benchmarks
# compare with, what studies may use (pandas, Dask), and xarray; PyTorch is a large download, so without it those tests
# are skipped.
COMPARE ?=
WITH_COMPARE := $(if $(filter-out 0 no,$(COMPARE)),$(VENV)/.compare $(VENV)/.studies $(VENV)/.labels)
# BROWSER=1 also installs playwright and Sphinx: tests open the notebooks and the site in Chromium (which they need:
# apt-get install chromium, say).
BROWSER ?=
WITH_BROWSER := $(if $(filter-out 0 no,$(BROWSER)),$(VENV)/.browser $(VENV)/.docs)
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?= --json build/benchmark.json
LAB_ARGS ?=
SITE_ARGS ?=
NOTEBOOKS ?=
JOBS ?= 1

# Without bytecode every start would compile every import again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test lint types figures bench lab notebooks check-notebooks site package constraints clean FORCE

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.core ## gradients checked, a tagger trained, first figures drawn
	$(BIN)/lstm-numba demo $(DEMO_ARGS)

test: $(VENV)/.test $(VENV)/.notebooks $(WITH_COMPARE) $(WITH_BROWSER) ## all tests; COMPARE=1, BROWSER=1 install more to test with; PYTEST_ARGS="-k ..."
	@$(if $(PYTEST_ARGS),:,echo "All tests take about fifteen minutes on two cores, most of it compiling.")
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test ## ruff and codespell
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/codespell

types: $(VENV)/.test ## mypy
	$(BIN)/python -m mypy

figures: $(VENV)/.core ## draw every figure of the tutorials into figures/
	$(BIN)/python -m lstm_numba figures --out figures

bench: $(VENV)/.bench $(WITH_COMPARE) ## benchmarks: tables, build/benchmark.json; COMPARE=1 installs the peers; BENCH_ARGS="..."
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

lab: $(VENV)/.notebooks ## JupyterLab on the tutorials
	$(BIN)/python -m jupyter lab $(LAB_ARGS) $(firstword $(wildcard notebooks/00*.ipynb) $(wildcard notebooks) .)

notebooks: $(VENV)/.notebooks ## run every notebook and store its outputs; NOTEBOOKS="00_start_here.ipynb ..." for some
	$(BIN)/python notebooks/run.py --jobs $(JOBS) $(NOTEBOOKS)

check-notebooks: $(VENV)/.notebooks ## run every notebook and the solutions of its exercises, change none; JOBS=2
	$(BIN)/python notebooks/run.py --check --jobs $(JOBS) $(NOTEBOOKS)

site: $(VENV)/.core $(VENV)/.docs ## the site, from the stored notebooks and figures, into build/site
	$(BIN)/python docs/build.py $(SITE_ARGS)

package: $(VENV)/.release ## sdist and wheel into dist/, checked, installed apart and tried
	rm -rf dist build/installed
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(PYTHON) -m venv build/installed
	build/installed/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt dist/*.whl
	cd build/installed && bin/lstm-numba demo --quick --out .

constraints: ## refresh constraints.txt from pyproject.toml (needs uv)
	@{ printf '%s\n' \
		'# The exact versions that are tested, for Python 3.11 to 3.14. Made by `make constraints` from pyproject.toml.' \
		'# PyTorch is pinned in pyproject.toml itself; it and its GPU libraries stay out of this file.'; \
	uv pip compile --quiet --universal --all-extras --no-annotate --no-header --no-emit-index-url pyproject.toml \
		| grep -v -E '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)=='; } > constraints.txt.tmp
	@mv constraints.txt.tmp constraints.txt

clean: ## remove caches and builds; the set-up goes with rm -r .venv
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find lstm_numba tests benchmarks notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-type d -prune -exec rm -rf {} + 2>/dev/null || true

# The set-up. Each file $(VENV)/.EXTRA stands for "the package is installed here with this extra". pip runs again only when
# pyproject.toml or constraints.txt changed, the Python it was made from is gone, or the folder was moved (an editable
# install and its scripts hold the old path).
ifneq ($(shell test -x $(BIN)/python && cat $(VENV)/.where 2>/dev/null),$(CURDIR))
STALE := FORCE
endif

$(BIN)/python:
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=none; \
	case $$version in \
		3.1[1-4]) ;; \
		3.1[5-9] | 3.[2-9][0-9]) echo "Python $$version is newer than Numba may know; if the set-up fails, try: make PYTHON=python3.14 ..." ;; \
		none) echo "make: no Python found as '$(PYTHON)'. Install Python 3.11 to 3.14, or name one: make PYTHON=python3.12 ..." >&2; exit 1 ;; \
		*) echo "make: '$(PYTHON)' is Python $$version, and Python 3.11 to 3.14 is needed. Name one: make PYTHON=python3.12 ..." >&2; exit 1 ;; \
	esac
	@echo "Making $(VENV), once; the next calls are quick."
	@rm -f $(BIN)/python $(BIN)/python3* $(addprefix $(VENV)/.,where core test compare studies labels browser notebooks bench docs release)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt $(STALE) | $(BIN)/python
	$(PIP_INSTALL) -e .
	@printf '%s' '$(CURDIR)' > $(VENV)/.where
	@touch $@

$(VENV)/.test $(VENV)/.compare $(VENV)/.studies $(VENV)/.labels $(VENV)/.browser $(VENV)/.notebooks $(VENV)/.bench $(VENV)/.docs $(VENV)/.release: $(VENV)/.%: pyproject.toml constraints.txt $(STALE) | $(BIN)/python
	$(PIP_INSTALL) -e '.[$*]'
	@printf '%s' '$(CURDIR)' > $(VENV)/.where
	@touch $@ $(VENV)/.core

FORCE:
