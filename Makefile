# Two commands matter: `make book` renders the book, `make test` proves it.
# `make help` lists the rest; PYTHON=python3.12 chooses the interpreter of a new .venv.

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
NEW_VENV = UV_PYTHON_DOWNLOADS=never $(UV) venv --quiet --python $(PYTHON) .venv
INSTALL = UV_FIND_LINKS="$${UV_FIND_LINKS-$$PIP_FIND_LINKS}" \
	$(UV) pip install --quiet --python $(BIN)/python
else
NEW_VENV = $(PYTHON) -m venv .venv
INSTALL = $(BIN)/python -m pip install --quiet
endif

STAGES := lint types unit slow compile dist notebooks readme site
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: help book test $(STAGES) lab execute portable mutants test-data bench clean

help:  ## this list
	@echo "stages of make test, each a target: $(STAGES)"
	@grep -hE '^[a-z$$() -]+:.*## ' $(MAKEFILE_LIST) \
	| sed -E 's/^([^:]+):.*## /\1\t/; s/\$$\(STAGES\)/$(STAGES)/' \
	| awk -F '\t' '{ printf "make %-10s %s\n", $$1, $$2 }'

# Each target installs only what it needs, and again when the requirements change.
.venv/made:
	$(NEW_VENV)
	@touch $@

.venv/book-ready: .venv/made pyproject.toml constraints.txt tools/extra.py
	@echo "installing what rendering needs (no torch)"
	@$(BIN)/python tools/extra.py book > .venv/book.txt
	@$(INSTALL) -c constraints.txt -r .venv/book.txt
	@$(INSTALL) --no-deps -e .
	@touch $@

.venv/test-ready: .venv/made pyproject.toml constraints.txt
	@echo "installing the package and what its tests need (torch: minutes)"
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch .venv/book-ready $@

.venv/bench-ready: .venv/test-ready
	@echo "installing what benchmarks need besides"
	@$(INSTALL) -c constraints.txt -e '.[dev,bench]'
	@touch $@

book: .venv/book-ready  ## render the book; prints the page to open
	@$(BIN)/jupyter-book build . --all -n -W --keep-going -q

test: .venv/test-ready  ## every stage, each with its time; a table at the end
	@$(BIN)/python tools/stages.py $(STAGES:site=book site)

# One stage of `make test` each; the site is the book as it is now.
$(STAGES): .venv/test-ready
	@$(BIN)/python tools/stages.py $(@:site=book site)

lab: .venv/test-ready  ## the notebooks in JupyterLab
	@cd notebooks && ../$(BIN)/jupyter lab

execute: .venv/test-ready  ## run the notebooks and keep their outputs; NB=03 for one
	@$(ONE_THREAD) $(BIN)/python tools/execute.py $(NB)

portable: .venv/test-ready  ## all notebooks as on another machine
	@$(BIN)/python tools/stages.py portable

mutants: .venv/test-ready  ## plant faults; each must turn a test red; ONE=name for one
	@$(ONE_THREAD) $(BIN)/python tools/mutants.py $(ONE)

test-data: .venv/test-ready  ## tests on real data, in the folder MINIGPT_DATA
	@$(BIN)/python tools/stages.py test-data

# A trial of each; its docstring says how it measures what results/*.json holds.
TRIALS := train_step generation harness $(if $(MINIGPT_DATA),quality)
bench: .venv/bench-ready  ## a trial of the benchmarks; writes nothing
	@status=0; for script in $(wildcard $(TRIALS:%=benchmarks/%.py)); do \
		echo "$$script --quick"; $(ONE_THREAD) $(BIN)/python $$script --quick \
		|| status=1; done; exit $$status

clean:  ## remove what was rendered
	rm -rf _build
