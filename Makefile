# demo   install, index the sample corpus with the real weights, ask three questions
# test   install what development needs, run every test
# lint   style, formatting and types
# bench  ours and a peer side by side (needs the benchmark data, see benchmarks/)
# clean  remove what the others made

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench clean

demo: $(VENV)/offline.done
	$(BIN)/python examples/search_peps.py build/peps-index

test: $(VENV)/dev.done
	$(BIN)/python -m pytest tests/

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev.done
	$(BIN)/python -m benchmarks.encode
	$(BIN)/python -m benchmarks.variants
	$(BIN)/python -m benchmarks.generate
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.memory

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.done: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[$*]'
	touch $@
