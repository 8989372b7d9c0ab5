# Thin: what there is to do, by name. The doing is in cargo and in hack/.

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

## The cluster and the images ##

.PHONY: cluster kubeconfig clean image e2e-image

cluster: ## A kind cluster to develop and test on: made, or found when it is up
	@hack/cluster.sh up

kubeconfig: ## The path of the cluster's kubeconfig
	@hack/cluster.sh kubeconfig

image: ## The product's image from this tree; prints its reference
	@hack/image.sh

e2e-image: ## The image of the end-to-end tests' clients; prints its reference
	@hack/e2e-image.sh

clean: ## Leaves nothing running or mounted; keeps the cache of built things unless CLEAN_CACHE=1
	@hack/cluster.sh down

## Checks, tests and figures ##

.PHONY: check test e2e bench generate

check: ## Format, lints and the tests that need no cluster
	@hack/check.sh

test: ## All checks and tests, those on the real cluster too
	@hack/test.sh

e2e: ## The tests on the cluster alone; TEST=part-of-a-name picks some
	@hack/e2e.sh $(TEST)

bench: ## GetSecret through the gate beside a bare handler, in one run
	@cargo bench --locked --bench data_plane

generate: ## Writes the generated files anew
	@UPDATE=1 cargo test --quiet --locked --test integration generated

## Strongroom in the cluster ##

.PHONY: deploy demo

deploy: ## Image, load, helm upgrade --install in strongroom-system
	@hack/deploy.sh

demo: ## From a bare machine to a pod that reads its secret, and sees the next version
	@hack/demo.sh
