#!/usr/bin/env bash
# slurm.sh SLURM up|down: a Slurm of two nodes for slurm_test.sh, beside and apart from the one of
# tests/cluster. SLURM is bookworm (22.05), trixie (24.11), forky (26.05), or a directory with a
# Slurm that was built for it (see tests/cluster/slurm-image.sh); RELEASE is its last part.
# Containers: spank-RELEASE-n1 (slurmctld and slurmd) and spank-RELEASE-n2 (slurmd).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
slurm=$1
release=$(basename "$slurm")
out=$top/build/test/spank/$release

down() {
	docker rm --force --volumes "spank-$release-n1" "spank-$release-n2" >/dev/null 2>&1 || true
	docker network rm "spank-$release" >/dev/null 2>&1 || true
}

build() {
	local image=$1 version
	version=$(docker run --rm --entrypoint slurmd "$image" -V | awk '{ print $2 }')
	"$here/../build.sh" "$out" "$version"
	gcc -O2 -Wall -Wextra -Werror -shared -fPIC -DLOG='"/tmp/library.log"' -o "$out/stub_library.so" "$here/stub_library.c"
}

up() {
	local image node
	image=$("$top/tests/cluster/slurm-image.sh" "$slurm" | tail -n1)
	down
	build "$image"
	docker network create "spank-$release" >/dev/null
	for node in n1 n2; do
		docker run --detach --init --cap-add SYS_PTRACE --cap-add SYS_ADMIN --network "spank-$release" --hostname "$node" \
			--name "spank-$release-$node" --volume "$here:/test:ro" --volume "$out:/build:ro" \
			--entrypoint /test/node "$image" "$node" >/dev/null
	done
	for _ in $(seq 1500); do
		if [ "$(docker exec "spank-$release-n1" sinfo -h -N -o '%N %t' 2>/dev/null | grep -c ' idle$')" = 2 ]; then
			return
		fi
		sleep 0.2
	done
	docker logs "spank-$release-n1" >&2
	echo "spank-$release: the nodes are not idle after five minutes" >&2
	exit 1
}

"$2"
