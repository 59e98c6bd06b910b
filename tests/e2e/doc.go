// Package e2e shows the bridge on real Slurm and real Kubernetes: jobs are submitted as a plain
// user, and what the user and the administrator see is judged.
//
//	make cluster && go test ./tests/e2e/...
//
// It knows a kubeconfig and the names of containers, nothing else: E2E_KUBECONFIG,
// E2E_SLURMCTLD, E2E_CONTROL_PLANE, E2E_NAMESPACE, E2E_NODES (see testbed.FromEnv). DWS is tests/dwssim,
// which is deployed when it is not there; E2E_DEPLOY=no leaves the cluster as it is.
//
// First come the tests that disturb all others, one after the other: they kill slurmctld or stop
// the API server. Then all the rest at once: a job that waits costs nothing. All the time, Slurm
// is asked for its nodes, and has to answer.
package e2e
