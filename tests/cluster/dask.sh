#!/usr/bin/env bash
# dask.sh: installs Debian's dask in the Slurm containers that run, for the test of
# docs/examples/dask.sh. The image is without it: it would be a third larger for all tests.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

log=$CACHE/dask.log
: >"$log"
installing=()
for daemon in slurmctld slurmd1 slurmd2; do
	docker exec --env DEBIAN_FRONTEND=noninteractive "$CLUSTER-$daemon" sh -c 'command -v dask >/dev/null ||
		{ apt-get -q -o Acquire::Retries=5 update && apt-get -q -o Acquire::Retries=5 install -y --no-install-recommends python3-distributed python3-numpy; }' \
		>>"$log" 2>&1 &
	installing+=($!)
done
for pid in "${installing[@]}"; do
	wait "$pid" || die "cannot install dask. Look at: $log"
done
