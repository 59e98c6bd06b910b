#!/usr/bin/env bash
# Takes out of the kind cluster what Slurm's side uses: each worker's kubelet credential, and
# kubeconfigs with a ServiceAccount's token, good for a day: one for slurmctld and, for the
# services of jobs, one for each node that is bound to it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
umask 077

export KUBECONFIG=$state/kubeconfig
credentials=$state/credentials

node_credential() {
	local node=$1 to=$credentials/$1
	mkdir -p "$to/pki"
	# The client's certificate is a link to a dated file; here it is the file.
	docker exec "$node" cat /etc/kubernetes/kubelet.conf >"$to/kubelet.conf"
	docker exec "$node" cat /var/lib/kubelet/pki/kubelet-client-current.pem >"$to/pki/kubelet-client-current.pem"
}

controller_kubeconfig() {
	local manifest=$top/packaging/manifests/controller.yaml token
	kubectl create namespace slurm --dry-run=client -o yaml | kubectl apply -f - >/dev/null
	kubectl -n slurm create serviceaccount slurmk8s-controller --dry-run=client -o yaml | kubectl apply -f - >/dev/null
	if [ -e "$manifest" ]; then
		kubectl apply -f "$manifest" >/dev/null
	else
		say "no $manifest: slurmctld's ServiceAccount has no rights"
	fi
	token=$(kubectl -n slurm create token slurmk8s-controller --duration 24h)
	kubeconfig_of slurmk8s-controller "$token" >"$credentials/controller.kubeconfig"
}

service_kubeconfig() {
	local node=$1 token
	token=$(kubectl -n slurm create token slurmk8s-node --duration 24h \
		--bound-object-kind=Node --bound-object-name="$node")
	kubeconfig_of slurmk8s-node "$token" >"$credentials/$node/slurmk8s-node.kubeconfig"
}

# kubeconfig_of USER TOKEN. The caller writes it in place: a container that has the file mounted
# keeps seeing it.
kubeconfig_of() {
	local ca
	ca=$(kubectl config view --raw -o jsonpath='{.clusters[0].cluster.certificate-authority-data}')
	cat <<-EOF
		apiVersion: v1
		kind: Config
		clusters:
		- name: $CLUSTER
		  cluster:
		    server: https://$CLUSTER-control-plane:6443
		    certificate-authority-data: $ca
		users:
		- name: $1
		  user:
		    token: $2
		contexts:
		- name: slurm
		  context: {cluster: $CLUSTER, user: $1, namespace: slurm}
		current-context: slurm
	EOF
}

node_credential "$CLUSTER-worker"
node_credential "$CLUSTER-worker2"
controller_kubeconfig
"$here/services.sh"
service_kubeconfig "$CLUSTER-worker"
service_kubeconfig "$CLUSTER-worker2"
