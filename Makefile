# make run            start the application (PORT=8001, HOST=0.0.0.0, DEMO=1 work)
# make test           set up what is wanted and test every rule (ARGS="tests/mail -x" for some tests)
# make test-all       make test, and the rest: all values, everything on PostgreSQL too, all browser stories
# make test-rest      only what make test-all runs besides make test
# make test-faults    the tests of faults with all their numbers: kills, cuts, clocks, full disks (ARGS="-k redis" for some)
# make mutations      break one rule at a time and see that `make test` notices (ARGS="link token": only some rules)
# make check          lint, format, types, direction of imports, templates, migrations
# make bench          measure, and write docs/benchmarks.md (QUICK=1: a tenth of the sizes; ARGS="idle": one only)
# make format         format code and templates
# make fuzz           look for files that the readers of certificates end badly with (MINUTES=10)
# make audit          look up known advisories about the pinned packages (asks the package index)
# make requirements   pin what requirements*.in ask for (UPGRADE=1 takes the newest)

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; done; echo python3)
VENV := .venv/bin/python
# Without cached bytecode, each of the tests' processes compiles all modules again, which takes it 10 seconds.
CACHING = env -u PYTHONDONTWRITEBYTECODE $(VENV)
TEMPLATES = $(shell find templates -name '*.html')
PIP_COMPILE = $(VENV) -m piptools compile --quiet --strip-extras --no-header --annotation-style line \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help python run dev test test-all test-rest test-faults mutations check bench format fuzz audit requirements

help:
	@sed -n 's/^# make/make/p' Makefile

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "as2certs: Python 3.11 or later is needed; $(PYTHON) is not (PYTHON=... names another one)."; exit 1; }

run: python
	@$(PYTHON) -m as2certs.run

dev: python
	@$(PYTHON) -m as2certs.run --install requirements.txt requirements-dev.txt

# tests/parts.py says which parts there are, and prints how long each took.
test: dev
ifneq ($(ARGS),)
	@$(CACHING) -m pytest $(ARGS)
else
	@$(CACHING) -m tests.parts test
endif

test-all: dev
	@$(CACHING) -m tests.parts test rest

test-rest: dev
	@$(CACHING) -m tests.parts rest

test-faults: dev
	@$(CACHING) -m pytest -m faults --faults=full $(ARGS)

# Each mutation is applied to a copy: the working tree stays as it is.
mutations: dev
	@$(CACHING) -m tests.mutations $(ARGS)

check: dev
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m mypy
	.venv/bin/lint-imports
	.venv/bin/djade --check --target-version 5.2 $(TEMPLATES)
	$(VENV) -m djlint --quiet --lint templates
	DJANGO_SETTINGS_MODULE=tests.settings $(VENV) -Werror manage.py check
	DJANGO_SETTINGS_MODULE=tests.settings $(VENV) manage.py makemigrations --check --dry-run

bench: dev
	@$(VENV) -m tests.bench $(if $(QUICK),--part 10) $(ARGS)

format: dev
	$(VENV) -m ruff check --fix
	$(VENV) -m ruff format
	-.venv/bin/djade --target-version 5.2 $(TEMPLATES)

# pip-audit lives in an environment of its own: what audits should not be part of what is audited.
audit: python
	@test -x var/audit/bin/pip-audit || { $(PYTHON) -m venv var/audit && var/audit/bin/pip install --quiet pip-audit; } || \
		{ echo "as2certs: pip-audit could not be installed, so nothing was looked up. A package index is needed."; exit 2; }
	@var/audit/bin/pip-audit --strict --progress-spinner off --disable-pip --no-deps \
		-r requirements.txt -r requirements-aws.txt -r requirements-azure.txt \
		-r requirements-files-com.txt -r requirements-dev.txt || \
		{ echo "as2certs: not clean. Advisories are listed above with the versions that mend them. Where it says that a"; \
		  echo "package was not found or a host was not reached, the advisories can't be had from here, and nothing is"; \
		  echo "known about the packages: run make audit where pypi.org can be reached."; exit 1; }

# So does the fuzzer, which brings a library of its own for each Python.
MINUTES ?= 10
fuzz: python
	@test -e var/fuzz/ready || { $(PYTHON) -m venv --clear var/fuzz && var/fuzz/bin/pip install --quiet \
		-r requirements.txt -r requirements-dev.txt atheris && touch var/fuzz/ready; } || \
		{ echo "as2certs: atheris could not be installed, so nothing was tried. It wants a package index."; exit 2; }
	@DJANGO_SETTINGS_MODULE=tests.settings var/fuzz/bin/python -m tests.pki.fuzz $(MINUTES) var/fuzz/corpus

requirements: dev
	$(PIP_COMPILE) requirements.in -o requirements.txt
	$(PIP_COMPILE) requirements-aws.in -o requirements-aws.txt
	$(PIP_COMPILE) requirements-azure.in -o requirements-azure.txt
	$(PIP_COMPILE) requirements-files-com.in -o requirements-files-com.txt
	$(PIP_COMPILE) requirements-dev.in -o requirements-dev.txt
