# shellcheck shell=bash disable=SC2034
# Names and small helpers that every script of the test cluster shares.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

CACHE=${SLURMK8S_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slurmk8s}
CLUSTER=${CLUSTER:-slurmk8s}
KUBERNETES_VERSION=${KUBERNETES_VERSION:-v1.34.4}
SLURM_RELEASE=${SLURM_RELEASE:-bookworm}
state=$CACHE/cluster
kube_bin=$CACHE/kubernetes/$KUBERNETES_VERSION/bin
export CACHE CLUSTER KUBERNETES_VERSION SLURM_RELEASE

mkdir -p "$state"
PATH=$kube_bin:$PATH

# One clock for a script and those that it calls.
export SLURMK8S_START=${SLURMK8S_START:-$(date +%s)}

say() {
	printf '[%4d s] %s\n' "$(($(date +%s) - SLURMK8S_START))" "$*"
}

die() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

# wait_for WHAT LOOK COMMAND...: runs the command until it succeeds. After five minutes, longer than
# the busiest machine needs, it ends the script with what was waited for and what to look at.
wait_for() {
	local deadline=$((SECONDS + 300)) what=$1 look=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || die "waited in vain for: $what. Look at: $look"
		sleep 0.3
	done
}

# Debian has compose 1 in bookworm and compose 2, as a plugin, later.
compose() {
	if docker compose version >/dev/null 2>&1; then
		docker compose "$@"
	else
		docker-compose "$@"
	fi
}

# has_image TAG
has_image() {
	docker image inspect "$1" >/dev/null 2>&1
}

# hash_of FILE...: a short name for their contents.
hash_of() {
	cat "$@" | sha256sum | cut -c1-12
}

# forget_older TAG PREFIX: removes what earlier inputs gave, TAG being what they give now.
forget_older() {
	docker image ls --format '{{.Repository}}:{{.Tag}}' --filter "reference=$2*" |
		{ grep -vxF "$1" || true; } | xargs --no-run-if-empty docker rmi >/dev/null 2>&1 || true # some are in use
}

# pull IMAGE: succeeds when a registry gives it. A refusal is remembered for a day, because
# finding out that no registry answers can take long.
pull() {
	local refusal
	refusal=$CACHE/registry/$(tr -c 'a-z0-9.\n' - <<<"$1")
	[ -z "$(find "$refusal" -mtime -1 2>/dev/null)" ] || return 1
	if timeout 20 docker manifest inspect "$1" >/dev/null 2>&1 &&
		timeout 900 docker pull --quiet "$1" >/dev/null; then
		return
	fi
	mkdir -p "$(dirname "$refusal")"
	touch "$refusal"
	return 1
}

# Without buildx, docker has only its old builder, and says so at length.
if ! docker buildx version >/dev/null 2>&1; then
	export DOCKER_BUILDKIT=0
fi
