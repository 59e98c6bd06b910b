#!/usr/bin/env bash
# Measures slurmk8s beside the kubectl way, against a real API server on loopback
# with tests/dwssim as DWS. `make bench` builds first, then calls this.
#
#   tests/bench/run.sh [-only REGEXP]    BENCH_QUICK=1: few samples, some minutes
#
# Prints a table and writes tests/bench/results.json (not with -only). Fails only when something
# could not be measured.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$PWD/build/bench
flags=(-std=gnu11 -O2 -g -Wall -Wextra -Werror)
mkdir -p "$out"
tests/kubernetes/build.sh etcd kube-apiserver kubectl >/dev/null
gcc "${flags[@]}" -I/usr/include/lua5.1 -o "$out/bbhost" tests/bench/harness/bbhost.c -llua5.1
gcc "${flags[@]}" -o "$out/coldcall" tests/bench/harness/coldcall.c goffi/shim/loader.c -ldl
gcc "${flags[@]}" -o "$out/spawns" tests/bench/harness/spawns.c
gcc "${flags[@]}" -DWITH_PROLOG -rdynamic -o "$out/launch_cost" spank/test/launch_cost.c spank/test/fake_spank.c -ldl
go build -o "$out/bench" ./tests/bench
CGO_ENABLED=0 go build -trimpath -tags nethttpomithttp2 -ldflags "-s -w" -o "$out/floor" ./tests/bench/harness/floor # as the program is built

# The plugin and the stopwatches around it, for the Slurm of the test cluster's image.
tests/cluster/deps.sh
image=$(tests/cluster/slurm-image.sh | tail -n1)
release=$(docker run --rm --entrypoint slurmd "$image" -V | awk '{ print $2 }')
spank/build.sh "$out" "$release"
numbers=$(echo "$release" | awk -F. '{ printf "%d,%d,%d", $1, $2, $3 }')
for place in before after; do
	gcc "${flags[@]}" -fPIC -shared -DPLACE="\"$place\"" -DFOR_SLURM="SLURM_VERSION_NUM($numbers)" \
		-o "$out/$place.so" tests/bench/harness/stopwatch.c
done
exec "$out/bench" -build build -slurm-image "$image" -results tests/bench/results.json "$@"
