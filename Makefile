# Two commands: `make demo` shows the project at work, `make test` checks it. `make test-quick` is
# for while you work: see CONTRIBUTING.md.
# Both make .venv and install into it; PYTHON names the interpreter (3.11 or newer).

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on

.PHONY: demo test test-quick lint clean

demo: .venv/installed
	$(BIN)/python -m tasks.text_classification

test: .venv/installed-test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-quick: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/python -m tests.quick

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON); give another: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: needs Python 3.11 or newer, $(PYTHON) is older; give another: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/pip
	@echo "installing into .venv (TensorFlow is large: this takes a minute or two)"
	$(PIP) -e .
	@touch $@

.venv/installed-test: pyproject.toml .venv/installed
	@echo "installing the test tools into .venv"
	$(PIP) -e '.[test]'
	@touch $@

clean:
	rm -rf .venv
