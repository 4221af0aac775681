# make test and make demo each do all their own set-up; on Debian and Ubuntu also the system's
# packages (by apt-get, as root or with sudo). One environment of tox serves both.
PYTHON ?= python3
VENV := .venv
TOX := $(VENV)/bin/tox
DEMO_OUT := demo-output

.PHONY: help test fast lint types demo bench wheel env system clean

help:
	@echo "make test    the whole suite: style, types, tests (installs what is missing)"
	@echo "make demo    segment nuclei of a real volume, write labels and a picture to $(DEMO_OUT)/"
	@echo "make fast    the tests without the slow ones"
	@echo "make lint    style only          make types   types only"
	@echo "make bench   benchmarks          make wheel   build the wheel into dist/"
	@echo "make clean   remove everything that was built"

test: lint types
	$(TOX) run -e py

fast: $(TOX)
	$(TOX) run -e py -- -m "not slow"

lint: $(TOX)
	$(TOX) run -e lint

types: env
	$(TOX) run -e types

demo: env
	$(TOX) exec -e py -- napari-slidesam demo --out $(DEMO_OUT)

bench: env
	$(TOX) exec -e py -- python tools/with_display.py python -m benchmarks

wheel: $(TOX)
	$(VENV)/bin/pip wheel --no-deps --wheel-dir dist .

# The tests' environment, with the package as it is now (`tox exec` alone installs nothing).
env: $(TOX)
	$(TOX) run -e py --notest

system:
	sh tools/system_packages.sh $(PYTHON)

$(TOX): | system
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet "tox>=4.24"

clean:
	rm -rf $(VENV) .tox build dist $(DEMO_OUT) .mypy_cache .ruff_cache .pytest_cache .hypothesis
