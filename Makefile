# Everything here sets up what it needs in .venv by itself. `make help` lists the commands.
PYTHON ?= python3
BIN := .venv/bin
export JUPYTER_PLATFORM_DIRS = 1
export PYDEVD_DISABLE_FILE_VALIDATION = 1
# Beside other programs, threads that sleep while they wait are far faster (vdiff_lite/__init__.py).
export GOMP_SPINCOUNT ?= 1000
# What pip has installed already is not installed again.
HAS_ALL = from importlib.util import find_spec as f; assert all(map(f, "vdiff_lite jupyter_book jupyterlab_myst nbval diffusers axe_core_python".split()))
# JupyterLab shows notebooks without their .py twins, and runs as root where it must.
LAB_FLAGS := --ContentsManager.hide_globs=*.py $(if $(filter 0,$(shell id -u)),--allow-root)
# Tests run two at a time, each with half of the cores.
HALF = OMP_NUM_THREADS=$$($(BIN)/python -c 'import os; print(max(1, os.cpu_count() // 2))')

.DEFAULT_GOAL := help
.PHONY: help book test test-browser unit notebooks lab train bench study execute lint audit environment address clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.venv/ready: pyproject.toml constraints.txt
	@if [ -e $@ ] || ! $(BIN)/python -c '$(HAS_ALL)' 2>/dev/null; then \
	  $(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"Python 3.10 or later is needed; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.11 $(MAKECMDGOALS)")' && \
	  echo "== setting up .venv (once; some minutes, about 2 GB on a machine without a GPU)" && \
	  { test -x $(BIN)/python || $(PYTHON) -m venv .venv; } && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,dev,bench]'; fi
	@touch $@

book: .venv/ready  ## build the site from the executed notebooks, and say which page to open
	@echo "== building the book"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter-book build book -W -n --keep-going --quiet
	@test -f book/_build/html/index.html
	@echo "== done. Open: file://$(CURDIR)/book/_build/html/index.html"

test: .venv/ready unit notebooks book  ## unit tests, every notebook through nbval, the book build and its browser tests
	@echo "== tests of the built book"
	@$(BIN)/python -m pytest tests/book -q

test-browser: book  ## every page in a browser, at three widths, light and dark; prints a table
	@$(BIN)/python -m pytest tests/book/test_pages.py -q; status=$$?; cat book/_build/pages.txt; exit $$status

unit: .venv/ready  ## unit tests of the library and the project
	@echo "== unit tests"
	@$(HALF) $(BIN)/python -m pytest tests -q --ignore=tests/book -n 2 --dist loadfile

notebooks: .venv/ready  ## run every notebook as a test (nbval)
	@echo "== notebooks"
	@$(HALF) $(BIN)/python -m pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --durations=0 --durations-min=20 notebooks -q

lab: .venv/ready  ## open the notebooks in JupyterLab
	@echo "== opening JupyterLab; open a notebook of the folder notebooks/"
	@$(BIN)/jupyter trust notebooks/*.ipynb >/dev/null
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab notebooks $(LAB_FLAGS)

train: .venv/ready  ## train digits32 again into data/checkpoints/retrained (goes on where it was cut off)
	@echo "== training digits32 (minutes on a large GPU, 8 hours on two cores)"
	@$(BIN)/vdiff train --recipe digits32 --out data/checkpoints/retrained/digits32

bench: .venv/ready  ## measure the speed; writes data/results/bench_cpu.json
	@$(BIN)/python tests/bench.py

study: .venv/ready  ## run the study of chapters 7 to 10 again (some hours of one core; goes on where it was cut off)
	@$(BIN)/python book/_tools/study.py

execute: .venv/ready  ## run the notebooks and keep their outputs (after editing them)
	@$(BIN)/python book/_tools/execute.py notebooks/*.py

lint: .venv/ready  ## check the code with ruff
	@$(BIN)/ruff check .

audit:  ## look for known vulnerabilities in the pinned packages (pip-audit, in an environment of its own; needs the web)
	@$(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@.venv-audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip

environment: .venv/ready  ## write environment.yml from pyproject.toml
	@$(BIN)/pyproject2conda yaml -e book -e dev -e bench --name vdiff --python-include "python~=3.11" --req "-e ." --no-header > environment.yml

address: .venv/ready  ## write the repository's address on GitHub into the notebooks, for Colab
	@$(BIN)/python book/_ext/repository.py

clean:  ## remove what the build made
	@rm -rf book/_build book/notebooks book/_mathjax book/_web_built .venv-audit
