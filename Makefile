# Everything is set up in .venv by the first target that needs it; `make demo` is the place to start.
# TORCH=1 installs PyTorch as well, for the tests that compare with it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build
SETUP := $(VENV)/built $(if $(TORCH),$(VENV)/torch)
NATIVE := $(shell find native -name '*.h' -o -name '*.cpp' -o -name '*.inc') CMakeLists.txt

.PHONY: demo test quick check format lint types imports selftest sanitize neon clean

demo: $(VENV)/built ## set up, build and train on real images, in a few minutes
	$(BIN)/hubel train digits --name demo

test: $(SETUP) ## every test
	$(BIN)/python -m pytest -n auto

quick: $(SETUP) ## the tests to run at every edit
	$(BIN)/python -m pytest -n auto -m 'not slow'

check: lint types imports test selftest sanitize neon ## what must hold before a commit

$(VENV)/built: $(NATIVE) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group test
	touch $@

$(VENV)/torch: $(VENV)/built
	$(BIN)/python -m pip install --quiet --group torch
	touch $@

$(VENV)/checked: $(SETUP)
	$(BIN)/python -m pip install --quiet --group check
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

COMMA := ,
# The tools that pip builds the module with, the system's before our own: another ninja would not know
# what is built already.
TOOLS := PATH="$$PATH:$(abspath $(BIN))"
build_selftest = $(TOOLS) && cmake -S . -B $(BUILD)/$(1) -G Ninja -DCMAKE_MAKE_PROGRAM="$$(command -v ninja)" \
	-DHUBEL_MODULE=OFF -DHUBEL_SELFTEST=ON $(2) >/dev/null && cmake --build $(BUILD)/$(1) --target selftest

selftest: $(VENV)/checked ## every kernel on every instruction set, against plain loops
	$(call build_selftest,module)
	$(BUILD)/module/selftest

sanitize: $(VENV)/checked ## the same under the address, undefined-behaviour and thread sanitizers
	$(call build_selftest,address,-DHUBEL_SANITIZE=address$(COMMA)undefined)
	$(BUILD)/address/selftest --small
	$(call build_selftest,thread,-DHUBEL_SANITIZE=thread)
	$(BUILD)/thread/selftest --small

neon: $(VENV)/checked ## the same for ARM, under an emulator, where the tools are installed
ifeq ($(and $(shell command -v aarch64-linux-gnu-g++),$(shell command -v qemu-aarch64)),)
	@echo 'SKIPPED: the NEON kernels need aarch64-linux-gnu-g++ and qemu-aarch64'
else
	$(call build_selftest,neon,-DCMAKE_TOOLCHAIN_FILE=native/aarch64.cmake)
	qemu-aarch64 $(BUILD)/neon/selftest --small
endif

clean:
	rm -rf $(VENV) $(BUILD)
