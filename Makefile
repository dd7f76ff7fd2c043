# `make demo` and `make test` do all set-up themselves; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo comparison test lint test-core test-ros clean

demo: $(INSTALLED)
	$(BIN)/python -m univseg_ros.demo --out demo_output

comparison: $(INSTALLED)
	$(BIN)/python benchmarks/comparison.py --demo demo_output

test: $(INSTALLED)
	$(MAKE) --no-print-directory --jobs 3 --output-sync=line lint test-core test-ros

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy

test-core: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/core tests/gpu

# By module: each process of the tests has a ROS domain of its own.
test-ros: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/ros

$(INSTALLED): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo 'univseg needs Python 3.10 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo 'Python lacks its venv module; on Debian and Ubuntu: apt install python3-venv'; exit 1; }
	@echo 'Installing into $(VENV) (about 6 GB, most of it PyTorch; a few minutes) ...'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[train,export,ros,test,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build install log demo_output *.egg-info
