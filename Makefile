# `make help` lists the commands. Each sets up `.venv` first if it is not there or out of date.
SHELL := /bin/bash
# Without brace and file name expansion, for ARGS: 'search.space.method.dropout={choice:[0.0,0.1]}'.
.SHELLFLAGS := +B -euf -o pipefail -c
ifeq ($(MAKE_VERSION),3.81)
$(error GNU make 3.82 or later is needed, and this is the 3.81 of macOS. Try: brew install make, then gmake ...)
endif
.DEFAULT_GOAL := help
.SILENT:
PYTHON ?= python3
RUN := .venv/bin/python -m
STAMP := .venv/.installed
# A thread each: two processes that compute with all cores wait for one another most of the time.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 2 --dist worksteal

# Free text reaches the command through the environment, as it was typed: make expands nothing in it.
FREE := TEXT ITEM FILE REASON
TYPED := $(foreach name,$(FREE),$(if $(filter command,$(origin $(name))),$(name)=))
override export TEXT := $(value TEXT)
override export ITEM := $(value ITEM)
override export FILE := $(value FILE)
override export REASON := $(value REASON)

# Every variable of the command line is handed on, so that a command refuses what it does not use; `?=` marks one of the
# environment, which counts for the commands that take it.
VARIABLES := TASKS TASK DATA CONF CHECKPOINT METHOD METHODS TRIALS EPOCHS SEED CLUSTER RESUME DRYRUN SOURCE TARGET TO PORT \
	COMMAND ADDRESS CRON ON ACTION ID
OTHERS = $(filter-out $(VARIABLES) $(FREE) ARGS PYTHON RUN STAMP,$(.VARIABLES))
from = $(foreach name,$(2),$(if $(and $(filter $(1),$(origin $(name))),$(value $(name))),'$(name)$(3)$(subst ','\'',$(value $(name)))'))
GIVEN = $(TYPED) $(call from,command,$(VARIABLES) $(OTHERS),=) $(call from,environment,$(VARIABLES),?=)
COMMANDS := sweep compare retrain predict status rollback ui convert submit schedule manifests

.PHONY: help setup $(COMMANDS) bench test test-faults check clean

help: $(if $(COMMAND),$(STAMP)) ## List the commands; COMMAND=sweep lists the settings of one
ifdef COMMAND
	$(RUN) jobs $(COMMAND) --help
else
	echo "make <command> [VARIABLE=value ...]"; echo
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	$(PYTHON) -m jobs --help
endif

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	echo "Setting up .venv (once, a few minutes) ..."
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[dev]' | awk \
		'/^Collecting/ {printf "\r  %d packages found", ++n; fflush()} /^Installing/ {printf ", installing\n"; fflush()}'
	touch $(STAMP)

setup: $(STAMP) ## Create .venv from pyproject.toml and constraints.txt

$(COMMANDS): $(STAMP)
	$(RUN) jobs $@ $(GIVEN) $(ARGS)

bench: $(STAMP) .venv-peer/.installed ## Training speed, side by side with the adapters library
	$(RUN) tests.bench $(GIVEN) $(ARGS)

.venv-peer/.installed: tests/bench/peer-requirements.txt
	echo "Setting up .venv-peer, which the adapters library needs for itself (once) ..."
	test -x .venv-peer/bin/python || $(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --disable-pip-version-check -q -r tests/bench/peer-requirements.txt
	touch $@

test: $(STAMP) ## All tests but those of faults
	$(PYTEST)

test-faults: $(STAMP) ## Tests that kill, fill and cut off what a sweep needs (minutes; some need root)
	.venv/bin/python -m pytest -m faults

check: $(STAMP) ## Style, types and all tests: what CI runs
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PYTEST)

clean: ## Remove .venv and caches; runs and models stay
	rm -rf .venv .venv-peer .mypy_cache .pytest_cache .ruff_cache
