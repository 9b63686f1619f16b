# Each target does all its own set-up. PYTHON picks the interpreter that makes the environment (3.10 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

CPP := $(wildcard native/*/*.cpp native/*/*.h native/*/*/*.cpp native/*/*/*.h)
# The kernels' own tests have a folder for each build: plain, and with sanitizers.
CHECKED := -G Ninja -DSECATEUR_TESTS=ON -DSECATEUR_WERROR=ON
SANITIZED := build/sanitize-address,undefined build/sanitize-thread

.PHONY: demo test test-slow test-keras tables lint types format clean native kernels sanitize bench-kernels

# Without the extra `vision`: timm brings torchvision, whose build must belong to torch's. Its tests are skipped here.
$(READY): pyproject.toml constraints.txt $(CPP) $(wildcard native/*.txt native/python/*.txt)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lab,keras,lightning,transformers,onnx,dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/secateur run --out runs/demo
	@echo "open runs/demo/report.html in a browser"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)

types: $(READY)
	$(BIN)/mypy

test: lint types kernels
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2  # two processes of one thread each

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# The tests of the Keras adapter and the tutorial on Keras's other backends, in an environment of their own.
KERAS_VENV := .venv-keras
KERAS_READY := $(KERAS_VENV)/.ready
BACKENDS := jax tensorflow

$(KERAS_READY): pyproject.toml constraints.txt $(CPP) $(wildcard native/*.txt native/python/*.txt)
	$(PYTHON) -m venv $(KERAS_VENV)
	$(KERAS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[lab,keras]' hypothesis pytest jax tensorflow-cpu
	touch $(KERAS_READY)

test-keras: $(BACKENDS:%=test-keras-%)

.PHONY: $(BACKENDS:%=test-keras-%)
$(BACKENDS:%=test-keras-%): test-keras-%: $(KERAS_READY)
	OMP_NUM_THREADS=1 KERAS_BACKEND=$* $(KERAS_VENV)/bin/python -m pytest tests/integrations/keras
	KERAS_BACKEND=$* $(KERAS_VENV)/bin/python examples/keras_tutorial.py --batch-size 8

# The compiled kernels again, after a change of their sources (every other target does it too when it has to).
native: $(READY)
	$(BIN)/python -c "from secateur import native; print('kernels:', native.why_not() or native.load().in_use())"

# The tests of the kernels in C++, with all warnings as errors.
kernels: $(READY)
	@if command -v c++ >/dev/null; then $(MAKE) --no-print-directory build/kernels; \
	else echo "no C++ compiler: the kernels are not tested"; fi

# The same under the sanitizers: addresses and undefined behaviour, then data races.
sanitize: $(READY)
	$(MAKE) --no-print-directory $(SANITIZED)

# The tables of accuracies that `secateur sweep` can make (ResNet-56 only where `--only` names it): by estimate a day on two cores;
# every finished run is kept, so stop it and start it as you like. DATA is a folder with MNIST, Fashion-MNIST and CIFAR-10; without it they are downloaded.
tables: $(READY)
	for page in mnist no_retraining published four_methods procedures findings; do \
		$(BIN)/python benchmarks/$$page.py $(if $(DATA),--data-dir $(DATA)) || exit 1; done

bench-kernels: $(READY)
	$(MAKE) --no-print-directory build/kernels
	build/kernels/secateur_bench

.PHONY: build/kernels $(SANITIZED)
build/kernels $(SANITIZED): export PATH := $(abspath $(BIN)):$(PATH)
build/kernels $(SANITIZED):
	cmake -S native -B $@ $(CHECKED) \
		-DSECATEUR_SANITIZE=$(patsubst build/sanitize-%,%,$(filter-out build/kernels,$@)) >/dev/null
	cmake --build $@ --parallel 2
	TSAN_OPTIONS=die_after_fork=0 $@/secateur_tests

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -f src/secateur/native/_kernels*
	find native/python -mindepth 1 ! -name CMakeLists.txt ! -path 'native/python/*.cpp' -delete
	rm -rf $(VENV) $(KERAS_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
