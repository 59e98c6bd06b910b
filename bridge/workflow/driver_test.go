package workflow

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// patience bounds a test that would otherwise hang.
const patience = 30 * time.Second

func newDriver(t *testing.T, s *kubetest.Workflows, change func(*slurmconf.Config)) *Driver {
	t.Helper()
	cfg, client, log := newClient(t, s, change)
	d, err := New(t.Context(), cfg, client, log)
	require.NoError(t, err)
	return d
}

func newClient(t *testing.T, s *kubetest.Workflows, change func(*slurmconf.Config)) (*slurmconf.Config, *kube.Client, *logrus.Entry) {
	t.Helper()
	cfg := slurmconf.Default()
	cfg.Cluster = "hpc"
	if change != nil {
		change(cfg)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	log := logrus.NewEntry(logger)
	client, err := kube.New(kube.Options{
		Kubeconfig: s.Kubeconfig(), RequestTimeout: cfg.Kubernetes.RequestTimeout.Std(), UserAgent: "test", Log: log,
	})
	require.NoError(t, err)
	return cfg, client, log
}

var theJob = &Job{Job: job.Job{Cluster: "hpc", ID: 12, UID: 1000, Restarts: job.AnyRun}, GID: 1000}

// is makes the Workflow be in a state; spec and status are overwritten field by field.
func is(desired, state State, ready bool, status string) func(kubetest.Object) kubetest.Object {
	return func(o kubetest.Object) kubetest.Object {
		if o == nil {
			o = kubetest.Object{
				"apiVersion": kubetest.Group + "/" + kubetest.Version, "kind": "Workflow",
				"metadata": kubetest.Object{
					"name": "bb12", "namespace": "slurm", "uid": "u1",
					"labels": kubetest.Object{job.LabelManagedBy: job.ManagedBy, job.LabelCluster: "hpc", job.LabelJobID: "12"},
				},
			}
		}
		kubetest.Part(o, "spec")["desiredState"] = string(desired)
		st := kubetest.Part(o, "status")
		st["state"], st["ready"], st["status"] = string(state), ready, status
		return o
	}
}

// doneAtOnce is a DWS that has nothing to do in a state.
func doneAtOnce(o kubetest.Object) kubetest.Object {
	want := State(kubetest.Part(o, "spec")["desiredState"].(string))
	return is(want, want, true, "Completed")(o)
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// whenWatched does things one after the other, each when a watch is open.
func whenWatched(t *testing.T, s *kubetest.Workflows, things ...func()) {
	go func() {
		for _, thing := range things {
			for s.Watches() == 0 {
				if t.Context().Err() != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
			thing()
		}
	}()
}
