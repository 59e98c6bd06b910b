#!/usr/bin/env bash
# Brings up the test cluster: Kubernetes (kind) and Slurm, joined. What is up already is kept.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$here/deps.sh"
# After deps.sh: the docker engine that it starts would keep the lock.
exec {lock}>"$CACHE/cluster.lock"
flock "$lock"
"$here/kind.sh" up
"$here/slurm.sh" "$SLURM_RELEASE" up
say "admin kubeconfig: $state/kubeconfig; Slurm: docker exec $CLUSTER-slurmctld sinfo"
