#!/usr/bin/env bash
# Makes sure that the cluster has a DWS (tests/dwssim), a pod on each worker that visits services
# (visitor), the image of the pods that jobs evict (workload) and the rights that the hooks need.
# What is there already, of the same sources, is kept.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

export KUBECONFIG=${E2E_KUBECONFIG:-$state/kubeconfig}
[ -s "$KUBECONFIG" ] || die "no $KUBECONFIG: bring the cluster up first (make cluster)"
cd "$top"

kubectl apply -f packaging/manifests/controller.yaml -f packaging/manifests/storage.yaml -f packaging/manifests/bundles.yaml >/dev/null
tests/cluster/services.sh
binaries=$(mktemp -d "$CACHE/e2e.XXXXXX")
trap 'rm -rf "$binaries"' EXIT

# deploy NAME PACKAGE MANIFEST NAMESPACE KIND SOURCE...: builds the image slurmk8s-NAME of the
# sources, and applies the manifest with it. KIND/NAME runs it.
deploy() {
	local name=$1 package=$2 manifest=$3 namespace=$4 kind=$5 image
	shift 5
	image=slurmk8s-$name:$(hash_of "$@")
	! up_to_date "$namespace" "$kind/$name" "$image" 2>/dev/null || return 0
	say "deploying $image"
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$binaries/$name" "$package"
	tests/cluster/image.sh "$image" "$binaries/$name"
	sed "s|image: slurmk8s-$name:test|image: $image|" "$manifest" | kubectl apply -f - >/dev/null
	# Of the whole, not only of the new pods: the old ones may be on their way out.
	wait_for "$name to be ready" "kubectl --kubeconfig $KUBECONFIG -n $namespace describe pods" \
		up_to_date "$namespace" "$kind/$name" "$image"
}

up_to_date() {
	[ "$(kubectl -n "$1" get "$2" --output 'jsonpath={.spec.template.spec.containers[0].image}')" = "$3" ] &&
		kubectl -n "$1" rollout status --timeout=30s "$2" >/dev/null
}

mapfile -t sources < <(find tests/dwssim tests/apiserver/pki -type f ! -name '*_test.go' | LC_ALL=C sort)
deploy dwssim ./tests/dwssim/cmd/dwssim tests/dwssim/deploy.yaml dws-system deployment "${sources[@]}"
deploy visitor ./tests/e2e/visitor tests/e2e/visitor/deploy.yaml e2e daemonset tests/e2e/visitor/*
deploy workload ./tests/e2e/workload tests/e2e/workload/deploy.yaml shared deployment tests/e2e/workload/*
