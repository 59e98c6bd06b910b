#!/usr/bin/env bash
# Removes the test cluster, Slurm's side and Kubernetes' side; caches and images stay.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

docker info >/dev/null 2>&1 || exit 0
"$here/kind.sh" down
rm -rf "$state"
