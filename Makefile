# The commands of this project; `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLATFORM_LOCK := deploy/locks/dev.txt
CLIENTS := .venv-clients
CLIENT_LOCKS := deploy/locks/clients.txt deploy/locks/clients-tensorflow-serving.txt
# Many tests wait, for a lease or a process; files stay together, for their tests share what is slow to start.
FUZZ_SECONDS ?= 60
IN_PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup clients demo up test estimators fuzz chaos check format figures screenshots reference sizes migration lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-11s %s\n", $$1, $$2}'

setup: $(VENV)/.installed  ## install everything into .venv, from hash-locked requirements

$(VENV)/.installed: deploy/locks/uv.txt $(PLATFORM_LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"selfnorm needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Say PYTHON=/path/to/python3.11 make ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r deploy/locks/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(PLATFORM_LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q service workers migrations
	@touch $@

clients: setup $(CLIENTS)/.installed  ## install the clients of other protocols, which the tests ask with, into .venv-clients

# Their pins are not ours, hence an environment of their own. The package of TensorFlow Serving wants all of TensorFlow
# for the messages that it has anyway: it lies apart, and is read by the Python of .venv.
$(CLIENTS)/.installed: $(CLIENT_LOCKS) | $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(CLIENTS)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(CLIENTS)/bin/python --require-hashes -r deploy/locks/clients.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps --target $(CLIENTS)/tensorflow-serving -r deploy/locks/clients-tensorflow-serving.txt
	@touch $@

demo: setup  ## train and serve the article's network on a real table, from end to end
	$(BIN)/selfnorm demo

up: setup  ## run the whole service on this machine, data in ./data (ctrl-C ends it)
	$(BIN)/selfnorm up --data-dir data

test: setup clients  ## run every test, those against a real Valkey and a real PostgreSQL included
	$(BIN)/python -m pytest $(IN_PARALLEL)

estimators: setup  ## run every check of scikit-learn on the estimators (ten minutes; make test runs the quick ones)
	SELFNORM_ALL_CHECKS=1 $(BIN)/python -m pytest -p no:xdist tests/integration/test_estimators.py

fuzz: setup  ## send what is almost valid to everything that reads what strangers send: make fuzz FUZZ_SECONDS=600
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

chaos: setup  ## kill things at random and check that nothing is lost: make chaos CHAOS="--database postgresql --kills 100"
	$(BIN)/python -m tests.chaos $(CHAOS)

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml service workers migrations
	$(BIN)/lint-imports
	$(BIN)/mypy

format: setup  ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

figures: setup  ## draw the figures of the documentation into docs/figures
	$(BIN)/python -m service.plots docs/figures

screenshots: setup  ## take the pictures of the pages, and put those of the README into docs/screenshots
	$(BIN)/python -m pytest -p no:xdist -q tests/browser/test_pictures.py
	mkdir -p docs/screenshots
	cp build/screenshots/job-wide-light.png docs/screenshots/job.png

reference: setup  ## write the tables of the reference, in docs/, from the code
	$(BIN)/python -m service.reference docs

COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11
LOCK := $(COMPILE) pyproject.toml

sizes: setup  ## measure what the API images install; the extra api must stay under 400 MB
	$(BIN)/python -m benchmarks.install_size

migration: setup  ## write the next migration from the code's tables: make migration MESSAGE="..."
	$(BIN)/python -m migrations "$(MESSAGE)"

lock: setup  ## write the lock files anew, with the newest versions that pyproject.toml allows
	$(LOCK) --upgrade --extra api --extra plots --extra worker --extra estimators --extra tracing --extra s3 --extra test deploy/locks/build.in -o deploy/locks/dev.txt
	$(LOCK) --extra api -c deploy/locks/dev.txt -o deploy/locks/api.txt
	$(LOCK) --extra api --extra plots --extra tracing --extra s3 -c deploy/locks/dev.txt -o deploy/locks/api-full.txt
	$(LOCK) --extra worker --extra tracing --extra s3 -c deploy/locks/dev.txt -o deploy/locks/worker.txt
	$(COMPILE) --no-deps deploy/locks/build.in -c deploy/locks/dev.txt -o deploy/locks/build.txt
	$(COMPILE) --upgrade deploy/locks/clients.in -o deploy/locks/clients.txt
	echo tensorflow-serving-api | $(COMPILE) --upgrade --no-deps - -o deploy/locks/clients-tensorflow-serving.txt
	echo uv | $(COMPILE) --upgrade - -o deploy/locks/uv.txt

clean:  ## remove the environment and what the demo left
	rm -rf $(VENV) $(CLIENTS) .demo
