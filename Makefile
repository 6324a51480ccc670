# make run    set-up and the main job: collect, train, evaluate, leaderboard
# make test   set-up and the tests           make test-full   the long ones too
# make test-faults   kills, damaged files, dying nodes: the long tests of failures
# make dist   wheel and sdist in dist/, checked, and a training with the wheel alone
# make docs   the documents as a site in site/, links checked; to read it, and to search:
#             python -m http.server --directory site
# make lint   ruff and mypy                  make bench       short benchmarks;
#             TORCH_PYTHON=…: an interpreter that has torch, for PyTorch's rates beside
# make gpu    a report of this accelerator in gpu.json, in eight minutes; make gpu again
#             measures what is missing; PROJECTS=jax_corl:PATH,…: peers' checkouts
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
TORCH_PYTHON ?=
PROJECTS ?=
ACCELERATOR ?= $(if $(wildcard /dev/nvidia0),cuda12)
EXTRAS := dev,mujoco,ogbench,render,arrow,ray,tensorboard

.PHONY: run test test-full test-faults dist docs lint bench gpu clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $(DOCS_STAMP)

run: $(STAMP)
	$(BIN)/python -m experiments.demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-full: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long or not long"

test-faults: $(STAMP)
	$(BIN)/python -m pytest -m "long or not long" tests/faults tests/runner/test_resume.py

dist:
	PYTHON=$(PYTHON) .ci/dist

docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --clean

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.training --seconds=0.5 --rounds=3 --torch_python=$(TORCH_PYTHON) \
		--sections=throughput,ceiling,rows,devices,sweep,memory
	$(BIN)/python -m benchmarks.training --seconds=0.5 --rounds=1 --preset=small --sections=seeds \
		--seed_counts=1,8 --algorithms=td3_bc,cfpi:bc,cfpi:sarsa,decision_transformer,lcd:planner
	$(BIN)/python -m benchmarks.startup --rounds=1 --updates=500
	$(BIN)/python -m benchmarks.environments
	$(BIN)/python -m benchmarks.mujoco_batch --seconds=1
	$(BIN)/python -m benchmarks.evaluation --steps=300 --repeats=1
	$(BIN)/python -m benchmarks.planning --preset=small --seconds=0.5
	$(BIN)/python -m benchmarks.sequence --torch_python=$(TORCH_PYTHON)
	$(BIN)/python -m benchmarks.improvement
	$(BIN)/python -m benchmarks.data_loading
	$(BIN)/python -m benchmarks.sweeps --jobs=2 --num_steps=200
	$(BIN)/python -m benchmarks.leaderboard

gpu: $(STAMP)
ifneq ($(ACCELERATOR),)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(ACCELERATOR)]'
endif
	$(BIN)/python -m benchmarks.gpu --json=gpu.json --projects=$(PROJECTS) \
		--torch_python=$(TORCH_PYTHON)

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
