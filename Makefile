# make run: the service on this machine; make check: everything that must hold before a commit.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet --quiet install
LOCK := $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-header --annotation-style=line \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.DEFAULT_GOAL := help
.PHONY: help install run test lint check format token reference bench lock clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

install: $(VENV)/.dev  ## Make the environment in .venv with the pinned dependencies
	@:

run: $(VENV)/.run  ## Start the service
	@exec $(PYTHON) app.py

test: $(VENV)/.dev  ## Run the tests; ARGS="-k heartbeat" for some of them
	@$(PYTHON) -m pytest $(ARGS)

lint: $(VENV)/.dev  ## Check formatting, lint, types and import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## Everything that must hold before a commit

format: $(VENV)/.dev  ## Let ruff format and repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

token: $(VENV)/.run  ## Print a development token; USER_ID=, EMAIL=, TTL=12h
	@$(PYTHON) -m settings.development \
		$(if $(USER_ID),--user-id="$$USER_ID") $(if $(EMAIL),--email="$$EMAIL") $(if $(TTL),--ttl="$$TTL")

reference: $(VENV)/.run  ## Generate docs/configuration.md, .env.example and docs/openapi.json
	$(PYTHON) -m settings.reference
	$(PYTHON) -m blueprints.openapi > docs/openapi.json.new
	@mv docs/openapi.json.new docs/openapi.json

bench: $(VENV)/.bench  ## List the benchmarks; ARGS=relay to run one
	$(PYTHON) -m bench $(ARGS)

lock: $(VENV)/.dev  ## Pin what the .in files ask for; ARGS=--upgrade for newer versions
	$(LOCK) $(ARGS) --output-file requirements.txt requirements.in
	$(LOCK) $(ARGS) --output-file requirements-dev.txt requirements-dev.in
	$(LOCK) $(ARGS) --output-file requirements-bench.txt requirements-bench.in

clean:  ## Remove the environment and everything generated
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Each stamp is as new as the requirements it holds, so an environment that is up to date costs nothing.
$(VENV)/.run: requirements.txt | $(PYTHON)
	@$(PIP) -r requirements.txt >&2
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@$(PIP) -r requirements-dev.txt >&2
	@touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.dev
	@$(PIP) -r requirements-bench.txt >&2
	@touch $@

# The lock files are made with Python 3.11, so that is the first choice.
$(PYTHON):
	@for python in python3.11 python3 python3.12 python3.13; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Creating $(VENV) with $$($$python --version)" >&2; \
			$$python -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; \
			exit; \
		fi; \
	done; \
	echo "Python 3.11 or later is needed, with its venv module." >&2; exit 1
