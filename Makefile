# Every target makes its own virtual environment first, and makes it anew only when what it is made from has changed.
# `make run` starts Ringfence; `make check` is what continuous integration runs.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: docs help venv system nsjail deno run test escapes-nsjail slow browser screenshots lowest vm containers check format lint types imports bench lock clean

BIN := .venv/bin

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

venv: ## Make .venv hold exactly what constraints.txt names, and this checkout
	@sh tools/venv

system: ## Add the small packages that some tests need, or say how
	@sh tools/system-packages

nsjail: venv ## Get the second wrapper for the tests of it, or say that there is none
	@sh tools/nsjail

deno: venv ## Get what a slow test of Deno needs, or say that there is none
	@sh tools/deno

run: venv ## Start a host with its own database and one satellite (ARGS="--port 9000" passes options)
	@exec $(BIN)/ringfence up $(ARGS)

test: venv system nsjail ## Run the tests, several at a time (ARGS="-k policy" chooses some, ARGS="-n 0" runs one at a time)
	@$(BIN)/python -m pytest $(ARGS)

escapes-nsjail: venv system nsjail ## Try all ways out of sandboxes that nsjail made
	@RINGFENCE_WRAPPER=nsjail $(BIN)/python -m pytest tests/escapes $(ARGS)

slow: venv ## Run the tests that take long, after adding what they need (an emulator, a compiler)
	@sh tools/system-packages all
	@sh tools/deno
	@$(BIN)/python -m pytest -m "slow and not containers" $(ARGS)

browser: venv ## Try the pages in a browser, after adding one
	@sh tools/system-packages all
	@$(BIN)/python -m pytest -m slow tests/browser $(ARGS)

screenshots: venv ## Take pictures of all pages, light, dark and as on a phone, into build/screenshots
	@sh tools/system-packages all
	@RINGFENCE_LOG_LEVEL=warning $(BIN)/python -m tests.lifelike.screenshots $(ARGS)

lowest: venv ## Run tests with the lowest versions that pyproject.toml allows (ARGS="-k policy" chooses some)
	@sh tools/lowest $(ARGS)

vm: venv ## Run the tests of what only a kernel with limiting cgroups, or systemd, shows, in a virtual machine
	@sh tools/system-packages all
	@$(BIN)/python -m tools.vm --timeout 2400 $(BIN)/python -m pytest -n 0 -p no:cacheprovider --confcutdir=tests/cgroups tests/cgroups tests/installing/machine $(ARGS)

containers: venv ## Build the images, start them with the documented flags, and try all ways out of sandboxes in them
	@sh tools/system-packages all
	@$(BIN)/python -m pytest -n 0 -m "containers or not containers" tests/containers $(ARGS)

check: venv system nsjail lint types imports ## Check everything: format, lint, types, imports, tests
	@$(BIN)/python -m pytest $(ARGS)

format: venv ## Format the code, and mend what the linter can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: venv
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: venv
	@$(BIN)/mypy

imports: venv
	@$(BIN)/lint-imports --no-logo

bench: venv ## Run every benchmark
	@set -e; for file in benchmarks/[a-z]*.py; do \
	  [ -f "$$file" ] || continue; \
	  echo "== $$file"; $(BIN)/python -m benchmarks.$$(basename "$$file" .py); \
	done

docs: venv ## Build the site of the documents into build/docs/site; a link that leads nowhere fails
	@$(BIN)/python -m tools.site

lock: venv ## Choose the newest versions that fit, and write them and their hashes to constraints.txt
	@sh tools/lock

clean: ## Remove everything that these targets made
	rm -rf .venv .venv.lock .lowest .vm .vm.new build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
