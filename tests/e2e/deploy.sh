#!/usr/bin/env bash
# Makes sure that the cluster has a DWS (tests/dwssim) and the rights that the hooks need. What
# is there already, of the same sources, is kept.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

export KUBECONFIG=${E2E_KUBECONFIG:-$state/kubeconfig}
[ -s "$KUBECONFIG" ] || die "no $KUBECONFIG: bring the cluster up first (make cluster)"
cd "$top"

kubectl apply -f packaging/manifests/controller.yaml >/dev/null

mapfile -t sources < <(find tests/dwssim tests/apiserver/pki -type f ! -name '*_test.go' | LC_ALL=C sort)
image=slurmk8s-dwssim:$(hash_of "${sources[@]}")
running() {
	[ "$(kubectl -n dws-system get deployment dwssim --output 'jsonpath={.spec.template.spec.containers[0].image} {.status.availableReplicas}')" = "$image 1" ]
}
if running 2>/dev/null; then
	exit
fi
say "deploying $image"
binary=$(mktemp -d "$CACHE/dwssim.XXXXXX")
trap 'rm -rf "$binary"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$binary/dwssim" ./tests/dwssim/cmd/dwssim
tests/cluster/image.sh "$image" "$binary/dwssim"
sed "s|image: slurmk8s-dwssim:test|image: $image|" tests/dwssim/deploy.yaml | kubectl apply -f - >/dev/null
# Of the Deployment, not only of the new pod: the old one may be on its way out.
wait_for 60 "DWS to be ready" "kubectl --kubeconfig $KUBECONFIG -n dws-system describe pods" running
