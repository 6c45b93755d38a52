# Every target sets up what it needs: `make demo` works in a fresh clone.
#
#   make PYTHON=/path/to/python demo     makes .venv from that Python (only when .venv has to be made)
#   make test PYTEST_ARGS='-k chunks'    passes arguments on to pytest
#   make bench-peers PEERS_ARGS='--seeds 3'    likewise to benchmarks/peers.py

VENV := .venv
BIN := $(VENV)/bin
# What a fit needs is installed; and what the checks need, too.
RUN_STAMP := $(VENV)/.runs
STAMP := $(VENV)/.installed
# The programs that we compare with are no part of the project and get an environment of their own.
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
CANDIDATES := python3.14 python3.13 python3.12 python3 python
PYTEST_ARGS :=
# Files of tests stay together: they share fixtures and compiled models.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile
UPSTREAM_TEST_ARGS :=
WHEEL := build/wheel
PEERS_ARGS :=

# Settings of an active environment that would leak into .venv.
unexport PYTHONHOME PYTHONPATH PIP_PREFIX PIP_TARGET PIP_USER

# Prints the interpreter itself, not the shim or virtual environment it was reached through.
PROBE := import sys, ensurepip, venv; \
	sys.exit(1) if sys.version_info < (3, 12) else \
	print(getattr(sys, "_base_executable", sys.executable))

# Type checkers look at the installed packages only if they have this file.
TYPED := from importlib.resources import files; \
	assert all((files(name) / "py.typed").is_file() for name in ("homodyne_fit", "nlsq_stratified"))

# NLSQ works without the packages that it asks for, 200 more and 1.3 GB, but for optax.
NLSQ := $$(sed -n 's/^ *"\(nlsq[^"]*\)".*/\1/p' pyproject.toml)
# The drop-in for NLSQ, on the points of a decay.
DROP_IN := import jax.numpy as jnp, numpy as np, nlsq_stratified as ns; \
	x = np.linspace(0, 3, 90); decay = lambda x, a, b: a * jnp.exp(-b * x); \
	arguments = decay, x, 2 * np.exp(-x), [1.0, 0.5]; chunks = dict(chunks=30, multistart=True, n_starts=3); \
	fits = ns.curve_fit_large(*arguments)[0], ns.curve_fit_large(*arguments, **chunks)[0], \
		ns.fit_large_dataset(*arguments).x, ns.fit_large_dataset(*arguments, **chunks).x; \
	assert np.allclose(fits, [2, 1])

# Installs into the environment of a Python: `$(call install,PYTHON,ARGUMENTS)`. uv is faster, but
# does not read the settings of pip, such as another package index.
install = { command -v uv >/dev/null && { uv pip install --python $(1) $(2) || \
	{ echo 'uv has failed; now with pip'; false; }; }; } || \
	$(1) -m pip install --disable-pip-version-check $(2)

# .venv is usable if its Python runs and, once set up, it was set up in this very folder
# (a copied or moved .venv still points at the old one).
USABLE := $(BIN)/python -c '$(PROBE)' >/dev/null 2>&1 && \
	{ [ ! -e $(RUN_STAMP) ] || [ "$$(cat $(RUN_STAMP))" = "$$(pwd -P)" ]; }
PEERS_USABLE := [ "$$(cat $(PEERS_STAMP) 2>/dev/null)" = "$$(pwd -P)" ] && \
	$(PEERS)/bin/python -c '$(PROBE)' >/dev/null 2>&1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-isa test-wheel lint types format upstream-test upstream-pr bench bench-peers clean \
	distclean FORCE

help:
	@echo 'make install    set up .venv, with the command homodyne_fit in it'
	@echo 'make demo       simulate a measurement, fit it and write the report'
	@echo 'make test       run the tests'
	@echo 'make test-isa   run the numerical core of the tests on older instruction sets'
	@echo 'make test-wheel build sdist and wheel, install the wheel alone and run a small demo with it'
	@echo 'make lint       check style (ruff)'
	@echo 'make types      check types (pyright)'
	@echo 'make format     rewrite the code in the project style'
	@echo 'make upstream-test  run the tests of NLSQ itself with our names in place of its (half an hour)'
	@echo 'make upstream-pr    build NLSQ with our modules inside and run its tests there'
	@echo 'make bench      time a pass, the start-up, the generic path, and what limits large clusters (an hour)'
	@echo 'make bench-peers    fit the same data with homodyne, xpcsjax and homodyne_fit'
	@echo 'make clean      remove caches and build products'
	@echo 'make distclean  remove .venv and .venv-peers too'
	@echo
	@echo 'Each target first installs into .venv what it lacks there; PYTHON=/path/to/python chooses the Python.'

install: $(RUN_STAMP)

demo: $(RUN_STAMP)
	@$(BIN)/homodyne_fit demo --overwrite

test: $(STAMP)
	@$(PYTEST) $(PYTEST_ARGS)

# What JAX compiles, and the linear algebra of NumPy and SciPy, round otherwise there: results must
# not depend on it.
test-isa: $(STAMP)
	@if [ "$$(uname -m)" = x86_64 ]; then \
		XLA_FLAGS="$$XLA_FLAGS --xla_cpu_max_isa=SSE4_2" OPENBLAS_CORETYPE=Nehalem \
			$(PYTEST) -m numerics $(PYTEST_ARGS); \
	else \
		echo 'make test-isa: this processor, '"$$(uname -m)"', has no older instruction set to try'; \
	fi

# The wheel, made from the sdist, with requirements.txt and without what NLSQ asks for, in an environment
# of its own; the demo runs in a folder from which the sources cannot be imported.
test-wheel: $(STAMP)
	@rm -rf $(WHEEL) && mkdir -p $(WHEEL)/folder
	@$(BIN)/python -m build --outdir $(WHEEL)/dist . >$(WHEEL)/build.log 2>&1 || { cat $(WHEEL)/build.log; exit 1; }
	@$(BIN)/python -m venv $(WHEEL)/venv
	@$(call install,$(WHEEL)/venv/bin/python,-q -r requirements.txt -c constraints.txt)
	@$(call install,$(WHEEL)/venv/bin/python,-q --no-deps -c constraints.txt "$(NLSQ)" $(WHEEL)/dist/*.whl)
	@cd $(WHEEL)/folder && ../venv/bin/homodyne_fit demo --frames 60 --pixels 2000
	@cd $(WHEEL)/folder && ../venv/bin/python -c '$(TYPED)'
	@cd $(WHEEL)/folder && ../venv/bin/python -c '$(DROP_IN)'

lint: $(STAMP)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || \
		{ echo 'Not in the project style (make format mends it):' >&2; \
		  $(BIN)/ruff format --check >&2; exit 1; }

types: $(STAMP)
	@$(BIN)/python -m pyright

format: $(STAMP)
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

# UPSTREAM_TEST_ARGS is passed on to pytest: '-k multistart' runs fewer tests, tests/streaming adds a folder.
upstream-test: $(STAMP)
	@$(BIN)/python tools/upstream_test.py $(UPSTREAM_TEST_ARGS)

upstream-pr: $(STAMP)
	@$(BIN)/python tools/upstream_pr.py $(UPSTREAM_TEST_ARGS)

bench: $(STAMP)
	@$(BIN)/python benchmarks/kernel.py
	@$(BIN)/python benchmarks/startup.py
	@$(BIN)/python benchmarks/generic_path.py
	@$(BIN)/python benchmarks/scale_simulation.py

bench-peers: $(STAMP) $(PEERS_STAMP)
	@$(BIN)/python benchmarks/peers.py $(PEERS_ARGS)

clean:
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage htmlcov
	@find . -path ./$(VENV) -prune -o -path ./$(PEERS) -prune -o -path ./.git -prune -o \
		\( -name __pycache__ -o -name '*.egg-info' \) -type d -prune -exec rm -rf {} +

distclean: clean
	@rm -rf $(VENV) $(PEERS)

FORCE:

# A second run does nothing until pyproject.toml or constraints.txt changes, or .venv breaks.
$(RUN_STAMP): pyproject.toml requirements.txt constraints.txt $(if $(shell $(USABLE) && echo yes),,FORCE)
	@$(USABLE) || { \
		if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; else set -- $(CANDIDATES); fi; \
		python=; \
		for candidate in "$$@"; do \
			python=$$("$$candidate" -c '$(PROBE)' 2>/dev/null) && [ -n "$$python" ] && break; \
			python=; \
		done; \
		if [ -z "$$python" ]; then \
			echo "No working Python >= 3.12 with venv and ensurepip found; looked for: $$*." >&2; \
			echo "Install one, or name it: make PYTHON=/path/to/python" >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$python"; \
		"$$python" -m venv --clear $(VENV) || exit 1; \
	}
	@echo 'Installing into $(VENV) what a fit needs: 38 packages, 0.7 GB'
	@rm -f $@
	@$(call install,$(BIN)/python,-r requirements.txt -c constraints.txt)
	@$(call install,$(BIN)/python,--no-deps -c constraints.txt "$(NLSQ)" -e .)
	@pwd -P > $@

$(STAMP): $(RUN_STAMP)
	@echo 'Installing into $(VENV) what the checks need: 240 packages, 2 GB, some minutes'
	@rm -f $@
	@$(call install,$(BIN)/python,-qq -e '.[dev]' -c constraints.txt)
	@pwd -P > $@

$(PEERS_STAMP): pyproject.toml constraints.txt $(if $(shell $(PEERS_USABLE) && echo yes),,FORCE) | $(STAMP)
	@$(PEERS_USABLE) || $(BIN)/python -m venv --clear $(PEERS)
	@echo 'Installing into $(PEERS) (the first time takes some minutes)'
	@rm -f $@
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check -e '.[bench]' -c constraints.txt
	@pwd -P > $@
