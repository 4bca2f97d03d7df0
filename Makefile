# Every target sets up what it needs; `make` alone lists them. On Windows without make: README.md has the commands.

# The Python that .venv is made with: the first of these that this project supports. `make PYTHON=…` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 \
	&& echo $$python && break; done)

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: help run full report app test lint bench colab lock clean
.NOTPARALLEL:

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 10

run: .venv/.base ## execute all notebooks at profile quick, then render the report (a few minutes)
	$(BIN)/fashion-mnist run --profile quick
	$(BIN)/fashion-mnist report

full: .venv/.base ## the real study: everything at profile full on the real data, then README's tables (hours)
	$(BIN)/fashion-mnist run --profile full
	$(BIN)/fashion-mnist report --readme

report: .venv/.base ## render the executed notebooks as HTML
	$(BIN)/fashion-mnist report

test: lint ## lint, then all tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 12

lint: .venv/.dev ## check style and formatting of code and notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check

app: .venv/.app ## show garments of your own to the best network, in the browser; Ctrl-C ends it
	$(BIN)/fashion-mnist app

colab: .venv/.base ## write copies of the notebooks for Google Colab to build/colab
	$(BIN)/fashion-mnist colab

bench: .venv/.bench ## run every script in benchmarks/
	@for script in benchmarks/*.py; do \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; \
	done

lock: build/uv/.done ## lock requirements*.lock again from pyproject.toml; UPGRADE=--upgrade takes the newest versions
	$(LOCK) --output-file requirements.lock
	$(LOCK) --extra test --extra app --constraint requirements.lock --output-file requirements-dev.lock

clean: ## delete what can be made again, except .venv and Data/
	rm -rf build dist .pytest_cache .ruff_cache src/*.egg-info
	find src tests benchmarks notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# The script itself compares the content of these files with what .venv holds; these stamps only save starting it.
.venv/.base: requirements.lock pyproject.toml install_requirements.py
	$(or $(PYTHON),python3) install_requirements.py --venv
	@touch $@

.venv/.dev: requirements-dev.lock requirements.lock pyproject.toml install_requirements.py
	$(or $(PYTHON),python3) install_requirements.py --venv --dev
	@touch $@

# The versions of requirements-dev.lock, which holds Gradio for the tests; pip wants no hashes in constraints.
.venv/.app: .venv/.base requirements-dev.lock
	@mkdir -p build
	sed -n 's/^\([a-z0-9].*==[^\\]*\).*/\1/p' requirements-dev.lock > build/constraints.txt
	$(BIN)/python -m pip install --no-build-isolation --constraint build/constraints.txt --editable ".[app]"
	@touch $@

# On Linux the default build of PyTorch brings several GB of CUDA along; a CPU build that is installed before is kept.
.venv/.bench: .venv/.base
	$(BIN)/python -m pip install --no-build-isolation --editable ".[bench]"
	@touch $@

# One lock for every system and Python. Versions already in the files are kept unless UPGRADE says otherwise.
LOCK = build/uv/bin/uv pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" --quiet $(UPGRADE)

build/uv/.done:
	$(or $(PYTHON),python3) -m venv build/uv
	build/uv/bin/python -m pip install --quiet uv
	@touch $@
