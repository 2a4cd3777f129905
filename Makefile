# Everything is set up in .venv by the first target that needs it; `make demo` is the place to start.
# TORCH=1 installs PyTorch as well, for the tests that compare with it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build
NATIVE := $(shell find native -name '*.h' -o -name '*.cpp' -o -name '*.inc') CMakeLists.txt

.PHONY: demo test check format lint types imports selftest sanitize neon bench clean

demo: $(VENV)/built ## train on real images, in about a minute
	$(BIN)/hubel train digits --name demo

test: $(VENV)/built ## every test
	$(BIN)/python -m pytest

check: lint types imports test selftest ## what must hold before a commit

$(VENV)/built: $(NATIVE) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
ifdef TORCH
	$(BIN)/python -m pip install --quiet torch==2.13.0
endif
	touch $@

$(VENV)/checked: $(VENV)/built
	$(BIN)/python -m pip install --quiet '.[check]'
	touch $@

format: $(VENV)/checked ## lay out all code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(find native -name '*.h' -o -name '*.cpp')

lint: $(VENV)/checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $$(find native -name '*.h' -o -name '*.cpp')

types: $(VENV)/checked
	$(BIN)/mypy

imports: $(VENV)/checked
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(BUILD)
