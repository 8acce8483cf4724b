# `make help` lists the commands. Each sets up `.venv` first if it is not there or out of date.
SHELL := /bin/bash
# Without brace and file name expansion, for ARGS: 'search.space.method.dropout={choice:[0.0,0.1]}'.
.SHELLFLAGS := +B -euf -o pipefail -c
.DEFAULT_GOAL := help
.SILENT:
PYTHON ?= python3
RUN := .venv/bin/python -m
STAMP := .venv/.installed
# A thread each: two processes that compute with all cores wait for one another most of the time.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 3 --dist loadfile

# Free text reaches the command through the environment, as it was typed: make expands nothing in it.
override export TEXT := $(value TEXT)
override export ITEM := $(value ITEM)
override export FILE := $(value FILE)
override export REASON := $(value REASON)

given = $(if $($(1)),'$(2)="$($(1))"')
COMMON = $(if $(CONF),'conf="$(CONF)"') $(ARGS)
SWEEP = 'tasks=[$(TASKS)]' $(call given,DATA,data.source) $(call given,CHECKPOINT,checkpoint) \
	$(if $(METHOD),'method=$(METHOD)') $(if $(TRIALS),'search.trials=$(TRIALS)') \
	$(if $(EPOCHS),'engine.epochs=$(EPOCHS)') $(if $(SEED),'seed=$(SEED)') $(if $(CLUSTER),'cluster=$(CLUSTER)') \
	$(call given,RESUME,resume) $(if $(filter-out 0 no false,$(DRYRUN)),dryrun=true) $(COMMON)

VARIABLES := TASKS TASK TEXT ITEM FILE DATA CONF CHECKPOINT METHOD METHODS TRIALS EPOCHS SEED CLUSTER RESUME DRYRUN ARGS PORT \
	COMMAND ADDRESS REASON CRON ON ACTION ID
# A variable that is misspelt on the command line would be ignored: TRAILS=2.
$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(if $(filter $(name),$(VARIABLES) PYTHON RUN STAMP),,\
	$(error $(name) is no variable of this Makefile. Known: $(VARIABLES)))))

.PHONY: help setup sweep compare submit manifests retrain rollback schedule status ui predict bench test test-faults check clean

help: ## List the commands
	echo "make <command> [VARIABLE=value ...]"; echo
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	echo; echo "Variables"
	echo "  TASKS       sentiment,ner,medqa  sentiment/movies  'sentiment/*'"
	echo "  TASK        one task, for predict; TEXT='...'  ITEM='<json>'  FILE=<jsonl>  or standard input"
	echo "  DATA        a folder <dir>/<task>[/<domain>]/{train,validation,test}.{jsonl,csv,parquet,conll}; or hub"
	echo "  CONF        a folder with task files of your own"
	echo "  CHECKPOINT  a name in conf/checkpoint, a folder, or a hub id"
	echo "  METHOD      houlsby, pfeiffer, parallel; lora, prompt, full, probe; METHODS for compare"
	echo "  TRIALS EPOCHS SEED    candidates a task, epochs a candidate, seed"
	echo "  DRYRUN=1    show the matrix and an estimate, train nothing"
	echo "  CLUSTER     local (default), a Ray of its own on this machine; existing, the one that this node is part of"
	echo "  RESUME      id of an interrupted sweep"
	echo "  ADDRESS     of a Ray cluster's dashboard, for submit: http://head:8265; COMMAND=sweep"
	echo "  REASON      of a rollback"
	echo "  CRON        for schedule: '0 3 * * 0'; ON=cron, systemd, kubernetes, foreground; ACTION=list, remove; ID=<its name>"
	echo "  ARGS        any config override: ARGS='search=optuna engine.batch_size=16'"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	echo "Setting up .venv (once, a few minutes) ..."
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[dev]' | awk \
		'/^Collecting/ {printf "\r  %d packages found", ++n; fflush()} /^Installing/ {printf ", installing\n"; fflush()}'
	touch $(STAMP)

setup: $(STAMP) ## Create .venv from pyproject.toml and constraints.txt

sweep: $(STAMP) ## Train, search and record an adapter for each of TASKS
	$(RUN) jobs.sweep $(SWEEP)

compare: $(STAMP) ## Seven METHODS side by side on each of TASKS: scores, parameters, time, memory
	$(RUN) jobs.compare $(SWEEP) $(if $(METHODS),'methods=[$(METHODS)]')

submit: $(STAMP) ## COMMAND (sweep, compare, retrain, status) with its variables on the Ray cluster at ADDRESS
	$(RUN) jobs.submit $(call given,COMMAND,submit.command) $(call given,ADDRESS,submit.address) \
		$(if $(filter status,$(COMMAND)),$(COMMON),$(SWEEP) $(if $(METHODS),'methods=[$(METHODS)]'))

manifests: $(STAMP) ## Files for Kubernetes: MLflow and a Ray cluster of GPUs, as ARGS of conf/manifests.yaml say
	$(RUN) jobs.manifests $(ARGS)

retrain: $(STAMP) ## Train the champions of TASKS on what is new in DATA; promote what is not worse
	$(RUN) jobs.retrain $(SWEEP)

rollback: $(STAMP) ## Make the champion before TASK's present one champion again, for a REASON
	$(RUN) jobs.rollback 'name="$(TASK)"' $(COMMON)

schedule: $(STAMP) ## Retrain TASKS at the times of CRON: by cron, or ON something else; ACTION=list, ACTION=remove ID=...
	$(RUN) jobs.schedule $(call given,CRON,schedule.cron) $(call given,ON,schedule.on) \
		$(call given,ACTION,schedule.action) $(call given,ID,schedule.id) $(if $(TASKS),$(SWEEP),$(COMMON))

status: $(STAMP) ## Champions and challengers: scores, checkpoint, data, age
	$(RUN) jobs.status $(COMMON)

ui: $(STAMP) ## The MLflow UI on the recorded runs (PORT=5000)
	$(RUN) jobs.ui $(if $(PORT),'port=$(PORT)') $(COMMON)

predict: $(STAMP) ## The champion of TASK answers TEXT, ITEM, FILE or standard input
	$(RUN) jobs.predict 'name="$(TASK)"' $(COMMON)

bench: $(STAMP) .venv-peer/.installed ## Training speed, side by side with the adapters library
	$(RUN) jobs.bench $(if $(TASKS),'tasks=[$(TASKS)]') $(call given,DATA,data.source) $(COMMON)

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
