#!/usr/bin/env bash
# slurm.sh [RELEASE] up|down|restart: the Slurm side of the test cluster, beside a kind cluster
# that is up. RELEASE is bookworm (the default), trixie or forky, or the directory of a Slurm, see
# slurm-image.sh; another one that runs is replaced. restart is for when a worker was restarted,
# whose network the Slurm node shares.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# = 2 ] || set -- "$SLURM_RELEASE" "$@"
release=$1
export CREDENTIALS=$state/credentials
export KUBECONFIG_FILE=$CREDENTIALS/controller.kubeconfig
export SLURM_IMAGE=unused
slurmctld=$CLUSTER-slurmctld
slurmd=("$CLUSTER-slurmd1" "$CLUSTER-slurmd2")

slurm_compose() {
	compose -p "$CLUSTER" --project-directory "$top" -f "$top/docker-compose.yml" "$@"
}

# Both nodes answer: they are idle, or have jobs of somebody who uses the cluster already. One
# that a test left down or drained is given back.
nodes_up() {
	local nodes node
	nodes=$(docker exec "$slurmctld" sinfo --noheader --Node --partition=main -o '%N %T') || return 1
	while read -r node; do
		docker exec "$slurmctld" scontrol update "NodeName=$node" State=RESUME </dev/null || true
	done < <(awk '$2 ~ /^(down|drain)/ { print $1 }' <<<"$nodes")
	[ "$(grep -cE ' (idle|mixed|allocated|completing)$' <<<"$nodes")" = 2 ]
}

wait_for_nodes() {
	wait_for "both Slurm nodes up" "docker exec $slurmctld sinfo -R; docker logs $slurmctld; docker logs ${slurmd[0]}" nodes_up
}

up() {
	local running node
	SLURM_IMAGE=$("$here/slurm-image.sh" "$release")
	"$here/credentials.sh"
	running=$(docker inspect --format '{{.Config.Image}}' "$slurmctld" 2>/dev/null || true)
	# State that a newer Slurm has written is not for an older one: nothing is kept.
	if [ -n "$running" ] && [ "$running" != "$SLURM_IMAGE" ]; then
		down
	fi
	slurm_compose -f "$here/compose.kind.yml" up -d >"$state/compose.log" 2>&1 || die "compose up failed. Look at: $state/compose.log"
	# New tokens, for containers that were up already.
	docker exec "$slurmctld" install -m 600 -o slurm -g slurm /run/credentials/slurmk8s.kubeconfig /etc/slurm/slurmk8s.kubeconfig
	for node in "${slurmd[@]}"; do
		docker exec "$node" install -m 600 /run/credentials/node/slurmk8s-node.kubeconfig /etc/slurm/slurmk8s-node.kubeconfig
	done
	if [ "$running" = "$SLURM_IMAGE" ] && [ -n "$(outdated)" ]; then
		restart
	fi
	wait_for_nodes
	say "slurm: $release is up, both nodes answer"
}

down() {
	docker info >/dev/null 2>&1 || return 0
	# Without compose.kind.yml, which wants the workers to be there.
	slurm_compose down --volumes --timeout 5 >"$state/compose.log" 2>&1 || die "compose down failed. Look at: $state/compose.log"
}

started() {
	docker inspect --format '{{.State.StartedAt}}' "$1"
}

# Prints something when what the daemons were started with is no longer what it should be:
# their configuration, or the network of a worker that was restarted since.
outdated() {
	docker exec "$slurmctld" entrypoint slurmctld reconfigure
	docker exec "${slurmd[0]}" entrypoint slurmd reconfigure
	docker exec "${slurmd[1]}" entrypoint slurmd reconfigure
	[[ $(started "${slurmd[0]}") > $(started "$CLUSTER-worker") ]] || echo "worker restarted"
	[[ $(started "${slurmd[1]}") > $(started "$CLUSTER-worker2") ]] || echo "worker2 restarted"
}

restart() {
	docker restart --time 5 "${slurmd[@]}" >/dev/null
	docker restart --time 5 "$slurmctld" >/dev/null
	wait_for_nodes
	say "slurm: restarted, both nodes answer"
}

case $2 in
up | down | restart) "$2" ;;
*) die "usage: slurm.sh [bookworm|trixie|forky|DIRECTORY] up|down|restart" ;;
esac
