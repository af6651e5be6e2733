# Every target starts from nothing: it makes .venv and installs what it needs first.
#   make demo              shipped world model → Fetch calibrated and under control → one HTML report
#   make demo VIDEO=path   the same, after pretraining on your own video (a file, a folder, or a LeRobot dataset)
SHELL  := /bin/bash
PYTHON ?= python3
VENV   ?= .venv
VIDEO  ?=
ARGS   ?=
export VIDEO
JOBS   ?= 2
LEROBOT ?= .venv-lerobot
AUDIT  ?= .venv-audit
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
GL     := $(VENV)/.gl
GL_APT := libegl1 libosmesa6 libgl1 libglib2.0-0

.PHONY: setup demo test test-fast test-browser test-lerobot docs-run lint format sbom audit results bench-compare docs clean help
.DEFAULT_GOAL := help

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(GL) ## virtual environment, packages, GL backend

demo: $(GL) ## the path on 2 cores in under 10 minutes; VIDEO=path pretrains on your own video first
	$(BIN)/robot-wm demo $${VIDEO:+"video=$$VIDEO"} $(ARGS)

test: $(GL) ## the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not gpu" $(ARGS)

test-fast: $(GL) ## the fast part (under 3 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

test-browser: $(GL) ## pages in a real browser, one at a time (apt-get install chromium)
	OMP_NUM_THREADS=1 ROBOT_WM_TEST_BROWSER=$${ROBOT_WM_TEST_BROWSER:-chromium} \
	  $(BIN)/python -m pytest -m "not gpu" -k "browser or width or page" tests/unit tests/pipeline/test_docs.py $(ARGS)

test-lerobot: $(STAMP) ## datasets exchanged with the official package, in its own .venv-lerobot (about 8 GB)
	test -x $(LEROBOT)/bin/python || $(PYTHON) -m venv $(LEROBOT)
	$(LEROBOT)/bin/python -m pip install --quiet --disable-pip-version-check 'lerobot==0.4.4'
	ROBOT_WM_LEROBOT_PYTHON=$(abspath $(LEROBOT))/bin/python \
	  $(BIN)/python -m pytest -m slow tests/equivalence/test_official_lerobot.py $(ARGS)

lint: $(STAMP) ## formatting, style, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(STAMP) ## rewrite files in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

sbom: ## what the runtime is made of, as CycloneDX JSON in sbom.json
	test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom pip-audit
	$(AUDIT)/bin/cyclonedx-py requirements requirements-runtime.txt --of JSON -o sbom.json

audit: sbom ## known vulnerabilities of the pinned runtime (asks an advisory database over the network)
	$(AUDIT)/bin/pip-audit --require-hashes -r requirements-runtime.txt

results: $(STAMP) ## docs/results.md from benchmarks/results/
	$(BIN)/python -m deploy.bench.history page

bench-compare: $(STAMP) ## what the newest results lost by more than noise
	$(BIN)/python -m deploy.bench.history compare

docs-run: $(GL) ## every command of the documentation that needs nothing but this machine, at a tiny size (15 minutes)
	OMP_NUM_THREADS=1 ROBOT_WM_TEST_DOCS=1 $(BIN)/python -m pytest -m slow tests/pipeline/test_docs_run.py $(ARGS)

docs: $(STAMP) ## the documentation as a site in site/, readable without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean: ## remove what make made (runs/ stays)
	rm -rf $(VENV) $(LEROBOT) $(AUDIT) site sbom.json .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "robot-wm needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev]' -c constraints.txt
	@touch $@

# Headless rendering needs EGL or OSMesa. Root on Debian or Ubuntu gets them installed; everybody else is told how.
$(GL): $(STAMP)
	@probe() { $(BIN)/python -c 'import cv2; from sims.gl import choose_backend; print("rendering through", choose_backend())'; }; \
	if ! probe 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "no GL backend for headless rendering yet: installing $(GL_APT)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $(GL_APT) >/dev/null; \
	  else \
	    echo "no GL backend for headless rendering; run: sudo apt-get install -y $(GL_APT)"; \
	  fi; \
	  probe || exit 2; \
	fi
	@touch $@
