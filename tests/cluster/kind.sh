#!/usr/bin/env bash
# kind.sh up|down: the Kubernetes cluster, of one control plane and two workers.
#
# up leaves a healthy cluster as it is and replaces a broken one. The node image is
# $NODE_IMAGE, else kind's own where it can be pulled, else one that is built here.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kubeconfig=$state/kubeconfig
nodes=("$CLUSTER-control-plane" "$CLUSTER-worker" "$CLUSTER-worker2")

healthy() {
	[ -s "$kubeconfig" ] || return 1
	[ "$(docker inspect --format '{{.State.Running}}{{.State.Paused}}' "${nodes[@]}" 2>/dev/null | sort -u)" = truefalse ] || return 1
	timeout 10 kubectl --kubeconfig "$kubeconfig" wait --for=condition=Ready --timeout=8s "${nodes[@]/#/node/}" >/dev/null 2>&1
}

node_image() {
	local stock
	if [ -n "${NODE_IMAGE:-}" ]; then
		echo "$NODE_IMAGE"
		return
	fi
	# kind has no image of every patch release, but always one of the first.
	for stock in "kindest/node:$KUBERNETES_VERSION" "kindest/node:${KUBERNETES_VERSION%.*}.0"; do
		if has_image "$stock" || pull "$stock"; then
			echo "$stock"
			return
		fi
	done
	"$here/node-image.sh"
}

# DNS is the last thing that works in a new cluster.
serves_dns() {
	kubectl --kubeconfig "$kubeconfig" -n kube-system wait --for=condition=Available --timeout=1s deployment/coredns
}

up() {
	# A test that ended early may have left it paused.
	docker ps --quiet --filter status=paused --filter "label=io.x-k8s.kind.cluster=$CLUSTER" | xargs --no-run-if-empty docker unpause >/dev/null
	if healthy; then
		say "kind: cluster $CLUSTER is up"
		return
	fi
	"$top/tests/kubernetes/build.sh" kind kubectl
	local image log=$state/kind.log
	image=$(node_image)
	down
	say "kind: creating cluster $CLUSTER from $image"
	kind create cluster --name "$CLUSTER" --image "$image" --config "$here/kind.yaml" \
		--kubeconfig "$kubeconfig" --retain --wait 120s >"$log" 2>&1 ||
		die "kind create cluster failed. Look at: $log, docker logs ${nodes[0]}"
	wait_for "all nodes Ready" "kubectl --kubeconfig $kubeconfig get nodes,pods -A" healthy
	wait_for "cluster DNS" "kubectl --kubeconfig $kubeconfig get pods -A" serves_dns
	say "kind: cluster $CLUSTER is ready"
}

down() {
	# What shares the workers' network does not outlive them.
	"$here/slurm.sh" down
	# What kind delete does, but it needs no kind, which may not be built.
	docker ps --all --quiet --filter "label=io.x-k8s.kind.cluster=$CLUSTER" |
		xargs --no-run-if-empty docker rm --force --volumes >/dev/null
	docker network rm kind >/dev/null 2>&1 || true # where another cluster is on it, it stays
	rm -f "$kubeconfig"
}

case ${1:-} in
up | down) "$1" ;;
*) die "usage: kind.sh up|down" ;;
esac
