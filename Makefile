# `make help` lists the commands. Each sets up `.venv` first if it is not there or out of date.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
ifeq ($(MAKE_VERSION),3.81)
$(error GNU make 3.82 or later is needed, and this is the 3.81 of macOS. Try: brew install make, then gmake ...)
endif
.DEFAULT_GOAL := help
.SILENT:
PYTHON ?= python3
RUN := .venv/bin/python -m
STAMP := .venv/.installed
# What is compiled is kept, a quarter of what is installed: a command starts many processes.
unexport PYTHONDONTWRITEBYTECODE
# A thread each: two processes that compute with all cores wait for one another most of the time. A third one gains
# nothing on two cores: what it fills of their time goes into its own imports. A test that has not ended after five
# minutes ends its process, which tells where all threads stood.
PYTEST := env OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	-o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true --max-worker-restart 2

# What the user types reaches a command through the environment, as it was typed: neither make nor a shell reads it. Word
# number 3, say TASK=it's, is in ADAPTERS_WORD_3; a command refuses what it does not use. Variables of the environment
# are not used, but for free text; a command is told of those that it would take.
VARIABLES := TASKS TASK VERSION ALIAS OUT DATA CONF CHECKPOINT METHOD METHODS TRIALS EPOCHS SEED CLUSTER RESUME DRYRUN SOURCE TARGET TO PORT \
	COMMAND ADDRESS CRON ON ACTION ID
FREE := TEXT ITEM FILE REASON
from = $(foreach name,$(2),$(if $(filter $(1),$(origin $(name))),$(name)))
GIVEN := $(filter-out PYTHON RUN STAMP,$(call from,command,$(.VARIABLES)))
override export ADAPTERS_STANDING := $(call from,environment,$(VARIABLES) ARGS)
override export ADAPTERS_WORDS := $(words $(GIVEN))
$(foreach name,$(GIVEN),$(eval NUMBER += x)$(eval override export ADAPTERS_WORD_$(words $(NUMBER)) := $$(name)=$$(value $$(name))))
# Make would hand them on too, and expand them for it.
$(foreach name,$(GIVEN),$(eval unexport $$(name)))
COMMANDS := sweep compare retrain predict evaluate serve status rollback promote ui convert submit schedule manifests

.PHONY: help setup $(COMMANDS) bench test test-faults check clean

help: $(if $(value COMMAND),$(STAMP)) ## List the commands; COMMAND=sweep lists the settings of one
ifneq ($(value COMMAND),)
	$(RUN) jobs help --make
else
	echo "make <command> [VARIABLE=value ...]"; echo
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	$(PYTHON) -m jobs --help
endif

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	echo "Setting up .venv (once, about two minutes) ..."
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	# uv takes a third of pip's time. It looks where pip is told to look; where it cannot be had or fails, pip does the work.
	while IFS== read -r key value; do case $${key##*.} in \
		index-url) export UV_DEFAULT_INDEX="$$value" ;; extra-index-url) export UV_INDEX="$${value//\\n/ }" ;; \
		find-links) export UV_FIND_LINKS="$${value//[ ]/,}" ;; constraint) export UV_CONSTRAINT="$$value" ;; \
		cert) export SSL_CERT_FILE="$$value" ;; esac; \
	done < <(.venv/bin/python -m pip config list | awk '/^:env:/ {own = own $$0 "\n"; next} 1; END {printf "%s", own}' | tr -d "'"); \
	export UV_INDEX_STRATEGY=unsafe-best-match; \
	.venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt uv && \
	.venv/bin/uv pip install --python .venv/bin/python --no-cache -c constraints.txt -e '.[dev]' || { \
	echo "uv could not, as is told above. Pip does it, some minutes longer ..."; \
	.venv/bin/python -m pip install --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[dev]'; }
	touch $(STAMP)

setup: $(STAMP) ## Create .venv from pyproject.toml and constraints.txt

$(COMMANDS): $(STAMP)
	$(RUN) jobs $@ --make

bench: $(STAMP) .venv-peer/.installed ## Speed, time to a score and a whole search, beside other libraries
	$(RUN) tests.bench --make

.venv-peer/.installed: tests/bench/peer-requirements.txt
	echo "Setting up .venv-peer, which the adapters library needs for itself (once) ..."
	test -x .venv-peer/bin/python || $(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --disable-pip-version-check -q -r tests/bench/peer-requirements.txt
	touch $@

test: $(STAMP) ## Tests of the parts: what you run while you write
	$(PYTEST) -m 'not faults and not commands and not ray and not server and not long'

test-faults: $(STAMP) ## Tests that kill, fill and cut off what a sweep needs (minutes; some need root)
	.venv/bin/python -m pytest -m faults

check: $(STAMP) ## Style, types, all tests but those of faults: what CI runs
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy & types=$$!; $(PYTEST) && wait $$types  # it uses one core

clean: ## Remove .venv and caches; runs and models stay
	rm -rf .venv .venv-peer .mypy_cache .pytest_cache .ruff_cache .hypothesis
