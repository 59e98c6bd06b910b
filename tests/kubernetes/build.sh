#!/usr/bin/env bash
# Builds Kubernetes and what goes with it from Go modules, for machines that cannot pull images.
#
#   build.sh                       everything
#   build.sh kube-apiserver kind   only these
#
# KUBERNETES_VERSION (v1.34.4) is what to build; the result is in
# $CACHE/kubernetes/$KUBERNETES_VERSION/bin, and what is there already is not built again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SLURMK8S_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slurmk8s}
version=${KUBERNETES_VERSION:-v1.34.4}
bin=$cache/kubernetes/$version/bin

# kube-apiserver is first: the api tests need nothing else of it.
all=(kube-apiserver kubectl kubelet kubeadm kube-controller-manager kube-scheduler kube-proxy etcd coredns kind)

module_and_package() {
	case $1 in
	etcd) echo "$here/etcd go.etcd.io/etcd/server/v3" ;;
	coredns) echo "$here/coredns github.com/coredns/coredns" ;;
	kind) echo "$here/kind sigs.k8s.io/kind" ;;
	kube* ) echo "$("$here/module.sh" "$version") k8s.io/kubernetes/cmd/$1" ;;
	*) echo "build.sh: no such binary: $1 (known: ${all[*]})" >&2; return 1 ;;
	esac
}

# Kubernetes takes its version from the linker; kubeadm refuses a kubelet that has none.
ldflags() {
	local minor=${version#v1.} package
	printf -- '-s -w'
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		printf -- ' -X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
			"$package" "$version" "$package" "$package" "${minor%%.*}" "$package"
	done
}

build() {
	local name=$1 where module package start=$SECONDS
	where=$(module_and_package "$name")
	read -r module package <<<"$where"
	(cd "$module" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -ldflags "$(ldflags)" -o "$bin/.$name.tmp" "$package")
	mv "$bin/.$name.tmp" "$bin/$name"
	echo "$((SECONDS - start)) s"
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=("${all[@]}")
mkdir -p "$bin"
number=0
for name in "${wanted[@]}"; do
	number=$((number + 1))
	[ ! -x "$bin/$name" ] || continue
	# One lock for each binary: a second build waits only for what it needs itself.
	exec {lock}>"$bin/.$name.lock"
	flock "$lock"
	if [ ! -x "$bin/$name" ]; then
		printf '[%d/%d] %s ... ' "$number" "${#wanted[@]}" "$name"
		build "$name"
	fi
	exec {lock}>&-
done
