# Every target sets itself up: .ci/install makes .venv from requirements.lock once.
BIN := .venv/bin
.PHONY: demo test test-browser screenshots check installed style types docs wheel format lock bench-estimators bench-embedding fuzz-api fuzz-uploads bench-api bench-web soak bench-truth

demo:
	@.ci/install
	@$(BIN)/zooscout demo

test:
	@.ci/install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Without a browser `make test` leaves these out; here they must run.
test-browser:
	@.ci/install
	@test -x /usr/bin/chromium || { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; }
	$(BIN)/python -m pytest tests/e2e/test_browser.py $(PYTEST_ARGS)

screenshots:
	@.ci/install
	$(BIN)/python -m tests.helpers.screenshots

check: style types docs

installed:
	@.ci/install

style: installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_migrations.py

types: installed
	$(BIN)/mypy

# Every page is read anew: of what is kept from an earlier run, warnings would not be seen again.
docs: installed
	$(BIN)/sphinx-build -q -W --keep-going -n -E -c docs -d .cache/docs/doctrees . .cache/docs/html
	@echo "The site is .cache/docs/html/docs/index.html"

# Wheel and sdist, the same bytes from the same commit.
wheel:
	@.ci/install
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 315532800) $(BIN)/python -m hatchling build -d dist

format:
	@.ci/install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock:
	.ci/lock

bench-estimators:
	@.ci/install
	$(BIN)/python -m benchmarks.estimators --plain $(BENCH_ARGS)

bench-embedding:
	@.ci/install
	$(BIN)/python -m benchmarks.embedding --wheels --weights .cache/zoo $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.kill
	folder=$$(mktemp -d) && $(BIN)/python -m benchmarks.incremental --data-dir $$folder --prepare --measure; \
	  code=$$?; rm -rf $$folder; exit $$code

bench-api:
	@.ci/install
	$(BIN)/python -m benchmarks.lists
	$(BIN)/python -m benchmarks.api $(BENCH_ARGS)

bench-web:
	@.ci/install
	$(BIN)/python -m benchmarks.web $(BENCH_ARGS)

fuzz-api:
	@.ci/install
	$(BIN)/python -m benchmarks.fuzz_api $(FUZZ_ARGS)

fuzz-uploads:
	@.ci/install
	$(BIN)/python -m benchmarks.fuzz_uploads $(FUZZ_ARGS)

soak:
	@.ci/install
	$(BIN)/python -m tests.soak.drive $(SOAK_ARGS)

# The report alone: the outcomes are data, which benchmarks/truth/README.md says how to make.
bench-truth:
	@.ci/install
	$(BIN)/python -m benchmarks.truth.report
