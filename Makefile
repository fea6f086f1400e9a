CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

built := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help build release demo test test-counterparts lint fmt deny ci bench install uninstall clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  %-18s %s\n", $$1, $$2 }'

build: ## Build for development
	$(CARGO) build

release: ## Build what is installed
	$(CARGO) build --release --locked

demo: ## Run a signed MCP conversation on this machine, then stay up
	$(CARGO) run -- demo

test: ## Run the tests; they need no network
	$(CARGO) test

test-counterparts: build ## Run real MCP clients, servers and the conformance suite (installs them first)
	tests/counterparts/run $(built)/debug/mcp-auth-proxy

lint: ## Check formatting and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

fmt: ## Format the sources
	$(CARGO) fmt

deny: ## Check licences, sources and advisories of what is linked (wants cargo-deny)
	$(CARGO) deny check

ci: ## Run everything that has to pass before a change goes in
	.ci/run

bench: ## Run the benchmarks
	@ls benches/*.rs >/dev/null 2>&1 || { echo 'bench: there are no benchmarks yet' >&2; exit 1; }
	$(CARGO) bench

include packaging/package.mk

install: ## Install what "make release" built, under $(DESTDIR)$(PREFIX)
	@test -x $(built)/release/mcp-auth-proxy || { echo 'install: nothing is built yet; run "make release" first' >&2; exit 1; }
	install -D -m 0755 $(built)/release/mcp-auth-proxy $(DESTDIR)$(PREFIX)/bin/mcp-auth-proxy

uninstall: ## Remove what "make install" installed
	rm -f $(DESTDIR)$(PREFIX)/bin/mcp-auth-proxy

clean: ## Remove all that was built
	$(CARGO) clean
