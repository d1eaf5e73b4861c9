# Each target sets itself up from nothing in .venv; tools/set_up.py says first what it downloads.
# PYTHON=python3.12 picks another Python (3.11 or newer) for .venv; the pins are known to work with 3.11.

PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
PINS := tools/set_up.py constraints.txt pyproject.toml
export PYTHONUNBUFFERED = 1
# What `make bench` leaves to `make bench-accuracy`.
HOURS := benchmarks/accuracy.py benchmarks/learning_curve.py benchmarks/regret.py benchmarks/patch_tokens.py

# Where there is no screen, a virtual one.
SCREEN = $(if $(DISPLAY),,xvfb-run --auto-servernum --server-args="-screen 0 1280x800x24")

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench bench-accuracy lint wheel docs pictures clean

help:  ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: .venv/.demo.done  ## the main job on a small cohort: slides in, prospect maps out
	$(BIN)/prospect demo -o prospector-demo

test: .venv/.test.done  ## the tests, windows included
	$(BIN)/python -m pytest $(PYTEST)

test-all: .venv/.test.done  ## the tests, those that take minutes included; the windows in each napari and Qt
	$(BIN)/python -m pytest -m "slow or not slow" $(PYTEST)
	$(BIN)/python tools/matrix.py

bench: .venv/.test.done  ## the benchmarks, as ratios
	@for file in $(filter-out $(HOURS) %/__init__.py,$(wildcard benchmarks/*.py)); do \
		echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

bench-accuracy: .venv/.test.done  ## how well maps find what they should, on the shared data; an hour or two, and goes on
	@for file in $(wildcard $(HOURS)); do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

lint: .venv/.lint.done  ## ruff and mypy
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

wheel: .venv/.lint.done  ## build the wheel, install it elsewhere and start it
	$(BIN)/python tools/try_wheel.py

docs: .venv/.docs.done  ## the user guide, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean --quiet
	@echo "The guide is in site/index.html"

pictures: .venv/.test.done  ## the pictures of the guide, taken in a real viewer
	$(SCREEN) $(BIN)/python tools/pictures.py

clean:  ## remove all that the other targets made
	rm -rf .venv .venv-matrix build dist site prospector-demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A later stage stands on the one before: all of them share .venv.
.venv/.demo.done: $(PINS)
	$(PYTHON) tools/set_up.py demo
.venv/.test.done: .venv/.demo.done
	$(PYTHON) tools/set_up.py test
.venv/.lint.done: .venv/.demo.done
	$(PYTHON) tools/set_up.py lint
.venv/.docs.done: $(PINS)
	$(PYTHON) tools/set_up.py docs
