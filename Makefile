# Four verbs: setup, check, test, demo. Everything happens inside .venv.
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -q -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: setup check fix test test-all demo mutants docs dist clean

.venv/base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

.venv/dev: .venv/base
	$(INSTALL) -e '.[dev]'
	touch $@

setup: .venv/dev          ## the virtual environment with all that the tests need: weights of `mini`, three vocabularies
	$(BIN)/anmok pull mini
	$(BIN)/anmok tokens clip smollm2 qwen --languages ko >/dev/null

check: .venv/dev          ## linter, types, import rule
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

fix: .venv/dev            ## what the linter can mend by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The page is tested in a real browser where there is one: Debian's package is called chromium.
BROWSER := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
# One at a time and after the others: a browser, a server and a worker beside them leave no time to wait for. What
# fails is tried again, and told of as RERUN: the clocks of a page, or of a busy machine, are not the test's own.
PAGES := tests/browser $(shell grep -ls 'browser.chromium' tests/test_*.py)

test: setup check         ## the suite, in a few minutes
	$(BIN)/pytest -n 2 -m 'not slow and not data and not browser' --reruns 1 -r aR
	$(if $(BROWSER),$(BIN)/pytest $(PAGES) -m 'browser and not slow and not data' --reruns 2 -r aR --timeout 600,@echo \
	"no chromium here: the tests of the page in a browser are left out (apt-get install chromium)")

test-all: setup check     ## with the slow tests, those on real labelled data, and those in a browser
	$(BIN)/pytest -n 2

demo: .venv/base          ## real photos to a verdict; the photos are for non-commercial use (CC BY-NC-SA 4.0)
	$(BIN)/anmok pull mini
	$(BIN)/anmok ladder --demo solar --accept-licence elpv --out report

mutants: .venv/dev        ## thirty planted faults: how many does the suite catch?
	$(BIN)/python tests/mutants.py

docs: .venv/dev           ## the documentation site, in site/
	$(INSTALL) -e '.[docs]'
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

dist: .venv/dev           ## the wheel that would be published
	$(PIP) wheel -q --no-deps -w dist .

clean:
	rm -rf .venv build dist site report
