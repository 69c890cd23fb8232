# Everything one does with this project, `make` alone lists it.
# PORT=9000 API=2 GATEWAYS=3 make run; DATABASE_URL=… REDIS_URL=… make run

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
TTL ?= 3600
.DEFAULT_GOAL := help
.PHONY: help run test chaos churn skew sbom lint openapi types bench seed reset token

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Install what is missing, build, start everything on http://localhost:8080; Ctrl-C stops it
	@scripts/install
	@cargo build --release -p api-service -p ws-gateway -p stack
	@exec $(TARGET)/release/stack run --profile-dir $(TARGET)/release

test: ## Install what is missing, build, run every test against real PostgreSQL, Redis and HAProxy
	@scripts/install test
	@cargo build --workspace
	@scripts/test

chaos: ## Random faults under load: MINUTES=30 SEED=1 [CLUSTER=1|SENTINEL=1] [STANDBY=1] make chaos
	@scripts/install
	@cargo build --release -p api-service -p ws-gateway -p stack -p e2e
	@exec $(TARGET)/release/chaos

churn: ## Clients that come and go, and whether memory stays flat: MINUTES=60 make churn
	@scripts/install
	@cargo build --release -p api-service -p ws-gateway -p stack -p e2e
	@exec $(TARGET)/release/churn

skew: ## Old and new services together, as during an upgrade and its rollback: OLD=<commit> make skew
	@[ -n "$(OLD)" ] || { echo "usage: OLD=<commit> make skew" >&2; exit 64; }
	@scripts/install
	@scripts/skew "$(OLD)"

sbom: ## Write a software bill of materials of each service (CycloneDX) into target/sbom, and check it
	@scripts/install lint
	@scripts/sbom

lint: ## Install what is missing; check formatting, code, layers, words, prose, scripts, dependencies and openapi.yaml
	@scripts/install lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/check-imports
	scripts/check-layers
	scripts/check-words
	scripts/check-prose
	scripts/check-shell
	scripts/check-javascript
	scripts/check-supply-chain
	@set -o pipefail; cargo run -q -p api-service -- openapi | diff -u --label openapi.yaml --label "the code" openapi.yaml - \
		|| { echo "openapi.yaml is not what the code says; run: make openapi" >&2; exit 1; }

openapi: ## Write openapi.yaml from the code
	@cargo run -q -p api-service -- openapi > openapi.yaml.new && mv openapi.yaml.new openapi.yaml || { rm -f openapi.yaml.new; exit 1; }

types: ## Write the SDK's .d.ts from its JSDoc
	@. e2e/contract/tools && tools_node && rm -rf clients/javascript/types && "$$node_modules/.bin/tsc" --project clients/javascript \
		&& "$$node_modules/.bin/tsc" --project clients/javascript/tsconfig.element.json

bench: ## Measure, beside the baselines, into docs/performance/README.md: JOB=relay make bench, or everything but growth in 20 minutes
	@scripts/install
	@bench/baselines/install
	@cargo build --release -p api-service -p ws-gateway -p stack -p bench -p baselines
	@exec $(TARGET)/release/bench $(JOB) --report docs/performance/README.md

seed: ## Fill the empty database of DATABASE_URL: MESSAGES=50000000 CONVERSATIONS=1000000 make seed
	@cargo build --release -p bench --bin seed
	@exec $(TARGET)/release/seed

reset: ## Drop all data (.local)
	@scripts/reset

token: ## Print a token: make token SUB=doc123 ROLE=user LOCATION=loc1 [TTL=3600]
	@[ -n "$$SUB" ] && [ -n "$$ROLE" ] && [ -n "$$LOCATION" ] \
		|| { echo "usage: make token SUB=doc123 ROLE=user LOCATION=loc1 [TTL=3600]" >&2; exit 64; }
	@cargo build --release -p api-service -p stack 1>&2
	@secret=$$($(TARGET)/release/stack secret) && JWT_SECRET=$$secret exec $(TARGET)/release/api-service token --sub "$$SUB" --role "$$ROLE" --location "$$LOCATION" --ttl "$(TTL)"
