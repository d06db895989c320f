# Everything that a newcomer or CI runs. `make help` lists it.
.DEFAULT_GOAL := help
.SHELLFLAGS := -euc

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CONFIG ?=
# The tests of one file stay with one worker, which has a PostgreSQL of its own; what takes minutes comes early.
PYTEST := .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder
LEADS := .venv/bin/leads $(if $(CONFIG),--config $(CONFIG))
PIP_INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps

# Every Dagster run is a new process: without compiled bytecode each one spends seconds on compiling its imports.
unexport PYTHONDONTWRITEBYTECODE
# Nothing here makes a connection that its user did not ask for.
export DAGSTER_DISABLE_TELEMETRY := yes
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false

.PHONY: help install install-dev demo dev test test-quick lint format bench chaos docs dbt-docs lock clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.base ## Send 5,000 leads through the whole chain into a sandbox CRM and show what happened
	@$(LEADS) demo $(ARGS)

dev: .venv/.base ## Open the product: capture, sandbox CRM, Dagster; one terminal, Ctrl-C stops all of it
	@exec $(LEADS) dev $(ARGS)

test: .venv/.dev ## Run every test
	@$(PYTEST) $(ARGS)

test-quick: .venv/.dev ## Run the tests that take seconds
	@$(PYTEST) -m "not slow and not chaos" $(ARGS)

lint: .venv/.dev ## Check style, types and import contracts
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: .venv/.dev ## Put the code into the project's format
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

bench: .venv/.dev ## Measure what the README promises (ARGS=--quick for a short look)
	@failed=0; for script in $(shell grep -l __main__ benchmarks/*.py); do \
		echo; echo "== $$script"; .venv/bin/python $$script $(ARGS) || failed=1; done; exit $$failed

chaos: export LEADS_CHAOS_LEADS ?= 1000000
chaos: export LEADS_FUZZ_EXAMPLES ?= 1000
chaos: .venv/.dev ## Break everything under the load of a million leads and count what is lost
	@.venv/bin/python -m pytest -m chaos $(ARGS)

install: .venv/.base ## Install what the product needs into .venv

install-dev: .venv/.dev ## Install what its developers need as well

docs: .venv/.dev ## Write the parts of the docs that follow from the code
	@.venv/bin/python scripts/write_docs.py

dbt-docs: .venv/.base ## Document the marts as one page in dbt_project/target (ARGS=--catalog asks the database as well)
	@.venv/bin/python -m leads_pipeline.analytics docs $(ARGS)

lock: ## Resolve the dependencies anew (needs uv)
	@uv pip compile --quiet $(LOCK_FLAGS) pyproject.toml requirements/build.in -o requirements/base.lock
	@uv pip compile --quiet $(LOCK_FLAGS) --extra dev --extra redis --extra accelerated -c requirements/base.lock \
		pyproject.toml requirements/build.in -o requirements/dev.lock

LOCK_FLAGS := --python-version 3.11 --universal --generate-hashes --no-strip-extras --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links

clean: ## Stop the embedded servers and remove .venv, caches and the demo's files; your own leads stay
	@if [ -x .venv/bin/leads ]; then unset LEADS_DATABASE_URL; \
		if [ -f .leads/demo/leads.yaml ]; then .venv/bin/leads --config .leads/demo/leads.yaml db remove --yes || true; fi; \
		$(LEADS) db stop >/dev/null || true; fi # its binaries are in .venv: it could not be stopped any more
	@rm -rf .venv .leads/demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		dbt_project/target dbt_project/logs
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "error: python3.11 was not found; install Python 3.11 or name one: make PYTHON=…" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=…" >&2; exit 1; }
	@echo "Creating .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
		echo "error: could not create .venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

.venv/.base: .venv/bin/python requirements/base.lock pyproject.toml
	@echo "Installing the locked dependencies into .venv: a minute or two, this once"
	@$(PIP_INSTALL) --require-hashes -r requirements/base.lock
	@$(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.base requirements/dev.lock
	@echo "Installing the developers' locked dependencies into .venv"
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@
