PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: install demo test lint docs bench clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "thalweg needs Python 3.11 or newer; got " + sys.version.split()[0] + ". Set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/thalweg survey --out runs/demo
	$(BIN)/thalweg ablate --out runs/demo
	$(BIN)/thalweg report runs/demo
	$(BIN)/thalweg figures training/run --out runs/training
	$(BIN)/thalweg report training/run --out runs/training/report.html

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist load --maxprocesses 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: install
	$(BIN)/python docs/generate.py

bench: install
	$(BIN)/python benchmarks/bench.py

clean:
	rm -rf .venv build dist runs .pytest_cache .ruff_cache .import_linter_cache
