.PHONY: help setup demo test envtest check bench bench-releases bench-scale bench-verdict crash soak clean lock docs

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup:  ## .venv from the lock file, and Prometheus
	@scripts/setup

demo: setup  ## four releases on real Envoy and real Prometheus, in about two minutes
	@.venv/bin/canary demo

test: setup  ## the whole suite, the slow tests last, three files at a time (most of it is waiting)
	@scripts/envtest --if-possible
	@.venv/bin/python -m pytest --numprocesses 3 --dist loadfile

envtest: setup  ## a real Kubernetes for the tests and --real: built once with Go, unless KUBEBUILDER_ASSETS names one
	@scripts/envtest

check: setup  ## ruff, mypy --strict, import-linter
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

bench: setup  ## what a tick costs: API calls, queries, processor time
	@.venv/bin/python -m bench

RUNS ?= 5

bench-releases: setup  ## four kinds of release on real Envoy, RUNS times each: docs/bench-releases.md (half an hour)
	@.venv/bin/python -m bench.releases --runs $(RUNS) --out docs/bench-releases.json --page docs/bench-releases.md

N ?= 100

bench-scale: setup  ## N rollouts on a real API server and a real Prometheus: docs/bench-scale.md (six minutes)
	@.venv/bin/python -m bench.scale --rollouts $(N) --json docs/bench-scale.json --page docs/bench-scale.md

ARGS ?=

bench-verdict: setup  ## the judge and its rivals on simulated rollouts: docs/bench-verdict.md and its pictures (half an hour)
	@scripts/setup bench
	@.venv/bin/python -m bench.verdict $(ARGS)

crash: setup  ## the controller killed on both sides of every write, compared; then under real requests; ARGS=--real
	@.venv/bin/python -m tests.faults.crash $(ARGS)
	@.venv/bin/python -m tests.faults.crash --traffic

SECONDS ?= 120
SEED ?= 1

soak: setup  ## releases without end and faults on all sides for SECONDS, drawn from SEED; ARGS=--real: a real API server
	@.venv/bin/python -m tests.faults.soak --seconds $(SECONDS) --seed $(SEED) $(ARGS)

clean:  ## everything that make setup and the tests made
	@rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: setup  # after a change of the ranges in pyproject.toml
	@.venv/bin/uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url \
	  --no-header --quiet --python-version 3.11 --output-file requirements.lock
	@.venv/bin/uv pip compile pyproject.toml --constraint requirements.lock --universal --generate-hashes \
	  --no-emit-index-url --no-header --quiet --python-version 3.11 --output-file requirements-run.lock
	@.venv/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'])" \
	  | .venv/bin/uv pip compile - --constraint requirements.lock --universal --generate-hashes \
	  --no-emit-index-url --no-header --quiet --python-version 3.11 --output-file requirements-build.lock
	@.venv/bin/uv pip compile --group bench --constraint requirements.lock --universal --generate-hashes \
	  --no-emit-index-url --no-header --quiet --python-version 3.11 --output-file requirements-bench.lock

docs: setup  # after a change of the models, of the transition table, or of what deploy/ has one source for
	@.venv/bin/python -m canary.model.crd > deploy/crd.yaml
	@.venv/bin/python -m canary.engine.picture > docs/engine.md
	@.venv/bin/python scripts/deploy.py
