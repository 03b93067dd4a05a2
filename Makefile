# demo   install, index the sample corpus with the real weights, ask three questions
# test   install what development needs, run every test
# soak   the full counts of the tests of what an index survives, their figures printed
# lint   style, formatting and types
# bench  ours and a peer side by side (needs the benchmark data, see benchmarks/)
# clean  remove what the others made

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# One after another: each prints its figures as it ends.
SOAKS = crashes durability fsyncs kill hostile ann rewriting model_changes

.PHONY: demo test soak lint bench clean

demo: $(VENV)/offline.done
	$(BIN)/python examples/search_peps.py build/peps-index

test: $(VENV)/dev.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile tests/

soak: $(VENV)/dev.done
	for name in $(SOAKS); do \
	  RETRIEVAL_SOAK=1 $(BIN)/python -m pytest tests/test_indexes/test_$$name.py || exit 1; \
	done

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev.done
	$(BIN)/python -m benchmarks.encode
	$(BIN)/python -m benchmarks.encode --of sts
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.warm
	$(BIN)/python -m benchmarks.cold_start
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
