# Everything that people and CI do here. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
RUNBOOKS ?=
REPOSITORY ?=
# Tests wait for clocks and processes, so more of them run at once than there are cores; with four, two cores were idle for a sixth of the time.
JOBS   ?= 5
LONG_JOBS ?= 5

# A process that finds no bytecode compiles all of remediator at its start, for seconds.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint check bench rules dashboard rbac reference docs pictures lock format clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "%-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## .venv with the locked dependencies

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## an incident on a simulated cluster, live; ARGS=--once ends by itself
	$(BIN)/remediator demo $(ARGS)

# Five workers that find no bytecode make all of it, each of them, before the first test.
$(VENV)/.compiled: $(VENV)/.ready
	@$(BIN)/python -m pytest --collect-only --quiet tests/unit >/dev/null & \
	  $(BIN)/python -m pytest --collect-only --quiet $(addprefix tests/,acceptance cli contract pipeline recovery) >/dev/null; wait
	@touch $@

test: setup $(VENV)/.compiled ## the tests; parts that need something absent say so
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(ARGS)

test-long: setup ## matrices that take minutes
	$(BIN)/python -m pytest -m long --timeout 900 --numprocesses $(LONG_JOBS) $(ARGS)

lint: setup ## format, lint, types, layers, dependencies
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry remediator

check: lint test ## what must be green before every commit

bench: setup ## speed and memory beside comparisons, as tables
	$(BIN)/python -m benchmarks $(ARGS)

rules: ## deploy/prometheus/*prometheusrule.yaml from rules.yaml and self.yaml; RUNBOOKS=https://... sets where runbook_url leads
	$(PYTHON) deploy/prometheus/prometheusrule.py $(if $(RUNBOOKS),--runbooks $(RUNBOOKS))

dashboard: ## deploy/grafana/remediator.json from dashboard.py
	$(PYTHON) deploy/grafana/dashboard.py

rbac: setup ## the Roles in deploy/, made from what the shipped playbooks need
	$(BIN)/python deploy/generate.py

reference: setup ## docs/playbook-reference.md, made from the models
	$(BIN)/python docs/playbook_reference.py

# Not --quiet: with it --strict does not see warnings.
docs: setup ## the documentation as a site, in build/site; REPOSITORY=https://... is where links to other files lead
	NO_MKDOCS_2_WARNING=1 REPOSITORY=$(REPOSITORY) $(BIN)/python -m mkdocs build --strict --clean

pictures: setup ## docs/pictures: the pages, in Chromium, and the demo in a terminal
	$(BIN)/python docs/pictures/make.py
	$(BIN)/python docs/pictures/terminal.py

format: setup ## let ruff format everything
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only

lock: ## pin the dependencies anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --group dev --extra postgres --extra otel pyproject.toml --upgrade -o requirements.lock

clean: ## remove what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
