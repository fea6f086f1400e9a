# The container image. CONTAINER is docker, podman, or whatever else knows `build -f FILE -t NAME DIR`.
CONTAINER ?= docker
IMAGE     ?= mcp-auth-proxy
IMAGE_TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: image
image: ## Build the container image
	$(CONTAINER) build -f packaging/container/Dockerfile -t $(IMAGE):$(IMAGE_TAG) .
