# make run            install into .venv, run the quick start, say where the report is
# make test           lint, types, tests and pages, as in continuous integration
# make docs           build the documentation's site; warnings are errors
# make image          draw the pictures of the README and the documentation again
# make evidence       tests of many seconds each, of kinds of which `make test` runs a quick one
# make bench          the same, then measure error against CPU time, whether errors are as reported, how cost grows, that shapes do not matter,
#                     and what tuning finds in how many solves
# make journey        click through the whole explorer in a browser
# make release-check  build wheel and source archive, install the wheel into empty environments, and try it there

PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test docs image evidence bench journey release-check
run: $(VENV)/.installed
	$(VENV)/bin/sgdlimit run examples/quickstart.toml --out runs/quickstart --force

test: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/basedpyright & types=$$!; $(PYTHON) -m pytest -n 2 --dist loadfile; tests=$$?; wait $$types && exit $$tests

docs: $(VENV)/.installed-dev
	$(PYTHON) -m sphinx -q -W --keep-going -n -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "Site: docs/_build/html/index.html"

evidence: $(VENV)/.installed-dev
	$(PYTHON) -m pytest -n 2 --dist loadfile -m evidence

bench: evidence
	$(PYTHON) benchmarks/work_precision.py
	$(PYTHON) benchmarks/calibration.py
	$(PYTHON) benchmarks/calibration.py --momentum --count 30
	$(PYTHON) benchmarks/random_problems.py
	$(PYTHON) benchmarks/growth.py
	$(PYTHON) benchmarks/shapes.py
	$(PYTHON) benchmarks/compiler.py
	$(PYTHON) benchmarks/witnesses.py
	$(PYTHON) benchmarks/one_run.py
	$(PYTHON) benchmarks/tuning.py
	$(PYTHON) benchmarks/sensitivity.py

image: $(VENV)/.installed
	$(PYTHON) docs/make_house.py
	$(PYTHON) docs/make_images.py

journey: $(VENV)/.installed-dev
	$(PYTHON) -m pytest -m journey tests/test_explore_page.py

release-check: $(VENV)/.installed-dev
	$(PYTHON) tests/release_check.py

# The stamps make a change of dependencies install again. An environment made by another Python is made anew.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON3) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "sgdlimit needs Python 3.11 or later; try: make PYTHON3=python3.12")'
	$(PYTHON3) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@
