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
