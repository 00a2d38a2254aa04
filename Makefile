# Everything a person or a machine does with this project. `make help` lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup verify test check prove bench plots lab-up lab-down kube-assets schema clean

PYTHON_BIN := .venv/bin/python
PYTEST := $(PYTHON_BIN) -m pytest
TESTS := tests/
NAME ?= demo
PROFILE ?= aws-calico
ENV ?=
ARGS ?=

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  ENV=FILE      environment to verify (default: both labs)     make verify ENV=prod.yaml'
	@echo '  ARGS="..."    more arguments for the program that is run     make verify ARGS="-k reachability"'
	@echo '  NAME=demo     which lab lab-up and lab-down mean'
	@echo '  PROFILE=...   which kind of lab lab-up makes                 make lab-up PROFILE=azure-cilium'

setup: ## Install what is missing: system tools (apt) and Python packages (.venv)
	@tools/setup.sh --dev

verify: ## Verify a lab of each profile, or ENV, and write the reports; fails unless every requirement is met
	@tools/setup.sh
	@$(if $(ENV),$(PYTEST) suites/ -n auto --env '$(ENV)' $(ARGS),$(PYTHON_BIN) tools/verify.py $(ARGS))

test: ## Run this project's own tests, and see that a sample of faults is found
	@tools/setup.sh --dev
	@$(PYTEST) $(TESTS) -n auto $(ARGS)
	@$(if $(ARGS),,$(PYTHON_BIN) tools/prove.py --sample 12 --narrow --reports reports/sample)

check: ## Lint, format, types, import directions, and the tests of the judges
	@tools/setup.sh --dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo
	@$(PYTEST) tests/unit/analysis -q

prove: ## Plant every fault of the catalogue and see the checks turn red (reports/proof.md)
	@tools/setup.sh --dev
	@$(PYTHON_BIN) tools/prove.py $(ARGS)

bench: ## Measure speed and memory (reports/bench.json)
	@tools/setup.sh --dev
	@$(PYTHON_BIN) tools/bench.py $(ARGS)

plots: ## Draw what bench measured of growth (docs/performance/*.svg)
	@tools/setup.sh --dev
	@$(PYTHON_BIN) tools/plots.py $(ARGS)

lab-up: ## Bring the lab NAME up and keep it
	@tools/setup.sh
	@$(PYTHON_BIN) -m provision up 'lab:$(PROFILE)' --name '$(NAME)' $(ARGS)

lab-down: ## Take the lab NAME down
	@$(PYTHON_BIN) -m provision down '$(NAME)'

kube-assets: ## Get a real kube-apiserver and etcd for the lab to run on (docs/lab.md)
	@tools/kube-assets/get.sh $(ARGS)

schema: ## Write docs/environment.schema.json anew
	@tools/setup.sh
	@$(PYTHON_BIN) -m provision.environment_schema

clean: ## Remove reports and caches; .venv stays
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find reports -mindepth 1 -maxdepth 1 ! -name templates ! -name README.md -exec rm -rf {} +
