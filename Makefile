# On a machine with git, make and Python 3.11 to 3.13: `make quickstart`, `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install dev quickstart test slow lint type check format lock image clean

install: .venv/installed
dev: .venv/dev

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -r requirements.txt
	$(BIN)/pip install --no-deps -e .
	touch $@

.venv/dev: .venv/installed
	$(BIN)/pip install -r requirements.txt -e '.[dev]'
	touch $@

quickstart: .venv/installed
	$(BIN)/python -m lit_mtrl fit --config conf/experiment/quickstart.yaml

# Two tests at a time, one thread each.
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

slow: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist worksteal

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/dev
	$(BIN)/pyright

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint type test

# The image's packages, with hashes; versions that are locked stay.
lock: .venv/installed
	$(BIN)/pip install --quiet 'uv>=0.9'
	$(BIN)/python tools/lock.py

# The Docker image for NVIDIA GPUs; docs/docker.md has others.
image:
	docker build --build-arg COMMIT=$$(git describe --always --dirty --abbrev=12) -t lit_mtrl .

clean:
	rm -rf .venv .pytest_cache .ruff_cache build dist
