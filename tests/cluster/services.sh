#!/usr/bin/env bash
# Opens Kubernetes to the services of jobs, as packaging/manifests/node.yaml tells an
# administrator to: rights and admission policy, the namespaces that slurmk8s.toml names, and
# the addresses that each node may publish.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export KUBECONFIG=${E2E_KUBECONFIG:-$state/kubeconfig}
binding=(create rolebinding --dry-run=client --output=yaml)

kubectl apply -f "$top/packaging/manifests/node.yaml" >/dev/null
for namespace in arkouda bob; do # slurm-jobs is open as the manifest has it
	{
		kubectl create namespace "$namespace" --dry-run=client --output=yaml
		echo ---
		kubectl --namespace "$namespace" "${binding[@]}" slurmk8s-node \
			--clusterrole=slurmk8s-node --group=slurmk8s:nodes --serviceaccount=slurm:slurmk8s-node
		echo ---
		kubectl --namespace "$namespace" "${binding[@]}" slurmk8s-reconcile \
			--clusterrole=slurmk8s-reconcile --serviceaccount=slurm:slurmk8s-controller
	} | kubectl apply -f - >/dev/null
	kubectl label --overwrite namespace "$namespace" slurmk8s.io/services=open >/dev/null
done
# A patch: what an apply of the manifest has not written, the next one leaves alone.
kubectl get nodes --output=json |
	jq '{data: [.items[] | {key: .metadata.name,
		value: ([.status.addresses[] | select(.type == "InternalIP") | .address] | join(","))}] | from_entries}' |
	kubectl --namespace slurm patch configmap slurmk8s-nodes --patch-file=/dev/stdin >/dev/null
