# `make demo` and `make test` set everything up themselves; `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: help demo comparison test lint test-core test-ros site tables clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 - /p' $(MAKEFILE_LIST) | \
	  while IFS= read -r line; do printf '  make %-12s %s\n' "$${line%% - *}" "$${line#* - }"; done

demo: $(INSTALLED)  ## the main job from end to end, on data it makes itself
	$(BIN)/python -m univseg_ros.demo --out demo_output

comparison: $(INSTALLED)  ## after the demo, for comparison: a network for each world, a random forest
	$(BIN)/python benchmarks/comparison.py --demo demo_output

test: $(INSTALLED)  ## lints and all tests
	$(MAKE) --no-print-directory --jobs 3 --output-sync=line lint test-core test-ros

lint: $(INSTALLED)  ## ruff, import-linter, mypy
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy

test-core: $(INSTALLED)  ## tests without ROS
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/core tests/gpu

# By module: each process of the tests has a ROS domain of its own.
test-ros: $(INSTALLED)  ## tests of the nodes
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/ros

tables: $(INSTALLED)  ## write the generated tables of the documentation
	$(BIN)/python docs/tables.py

site: $(INSTALLED)  ## the documentation as a site, in build/site
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m mkdocs build --strict

$(INSTALLED): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo 'univseg needs Python 3.10 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo 'Python lacks its venv module; on Debian and Ubuntu: apt install python3-venv'; exit 1; }
	@echo 'Installing into $(VENV) (about 6 GB, most of it PyTorch; a few minutes) ...'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[train,export,ros,test,dev]'
	@touch $@

clean:  ## remove what make has made, .venv too
	rm -rf $(VENV) build install log demo_output *.egg-info
