#!/usr/bin/env bash
# Makes the node image for kind, for machines that cannot pull kind's own, and prints its tag.
# It is kept in docker, and made again only when something that it is made of has changed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
from=$here/node-image

# Not all that the image is made of is a file here; Kubernetes itself follows from the go.mod files.
inputs=$(find "$from" "$here/node-image.sh" "$here/scratch-image"* "$top/tests/kubernetes" -type f ! -name '*.md' | LC_ALL=C sort)
mapfile -t inputs <<<"$inputs"
tag=slurmk8s-node:$KUBERNETES_VERSION-$(hash_of "${inputs[@]}")
exec {lock}>"$CACHE/node-image.lock"
flock "$lock"
if has_image "$tag"; then
	echo "$tag"
	exit
fi

log() {
	say "$@" >&2
}

"$top/tests/kubernetes/build.sh" >&2
# systemd must be bookworm's: a newer one does not boot where the machine has cgroup v1.
base=$("$here/base-image.sh" bookworm)

context=$(mktemp -d "$CACHE/node-image.XXXXXX")
trap 'rm -rf "$context"' EXIT
cp -a "$from/." "$context"
CGO_ENABLED=0 GO111MODULE=off go build -ldflags '-s -w' -o "$context/pause/pause" "$from/pause/main.go"

mapfile -t images < <("$kube_bin/kubeadm" config images list --kubernetes-version "$KUBERNETES_VERSION" 2>/dev/null)
[ ${#images[@]} -ge 7 ] || die "kubeadm config images list named no images"
for image in "${images[@]}"; do
	name=${image##*/}
	name=${name%%:*}
	log "image $image"
	case $name in
	kube-proxy)
		mkdir "$context/kube-proxy"
		cp "$kube_bin/kube-proxy" "$context/kube-proxy"
		docker build --force-rm --build-arg BASE="$base" --tag "$image" -f "$from/kube-proxy.Dockerfile" "$context/kube-proxy" >"$CACHE/kube-proxy-image.log" 2>&1 ||
			die "cannot make the kube-proxy image. Look at: $CACHE/kube-proxy-image.log"
		;;
	pause) pause=${image##*:}; "$here/scratch-image.sh" "$image" "$context/pause/pause" ;;
	*) "$here/scratch-image.sh" "$image" "$kube_bin/$name" ;;
	esac
done

mkdir -p "$context/rootfs/usr/bin" "$context/rootfs/kind/images"
cp "$kube_bin"/{kubeadm,kubelet,kubectl} "$context/rootfs/usr/bin"
echo "$KUBERNETES_VERSION" >"$context/rootfs/kind/version"
sed -i "s/@PAUSE@/$pause/" "$context/containerd.toml" "$context/manifests/default-cni.yaml"
mapfile -t everywhere < <(printf '%s\n' "${images[@]}" | grep -E '/(kube-proxy|pause|coredns):')
mapfile -t control_plane < <(printf '%s\n' "${images[@]}" | grep -vE '/(kube-proxy|pause|coredns):')
docker save -o "$context/rootfs/kind/images/all.tar" "${everywhere[@]}"
docker save -o "$context/rootfs/kind/images/control-plane.tar" "${control_plane[@]}"

log "image $tag"
docker build --force-rm --build-arg BASE="$base" --tag "$tag" "$context" >"$CACHE/node-image.log" 2>&1 ||
	die "cannot make the node image. Look at: $CACHE/node-image.log"
forget_older "$tag" "slurmk8s-node:$KUBERNETES_VERSION-"
echo "$tag"
