package workflow

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

func TestEachNodeIsToldItsRabbit(t *testing.T) {
	for name, breakdown := range map[string]kubetest.Object{"when its storage is made": xfs(50 * gib), "when the storage was made before": lustre(tib)} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			d := p.setUp(t, breakdown)
			asked := len(p.storageRequests())
			_, err := d.PreRun(bounded(t), onNodes("c01 c02 c05"))
			require.NoError(t, err)
			read := 0
			for _, request := range p.storageRequests()[asked:] {
				if request == "GET namespaces/default/systemconfigurations/default" {
					read++
				}
			}
			assert.Equal(t, 1, read, "it is large")
			before := len(p.Requests())
			for node, rabbit := range map[string]string{"c01": "r1", "c02": "r1", "c05": "r2", "c09": ""} {
				delivery, err := d.Deliver(bounded(t), theJob, node)
				require.NoError(t, err)
				told, has := delivery.Env["SLURMK8S_DW_RABBIT"]
				assert.True(t, has, "another node's may have come with the environment")
				assert.Equal(t, rabbit, told, node)
			}
			assert.Len(t, p.Requests(), before+4, "one request on each node: its Workflow")
		})
	}
}

func TestStorageWithoutServersHasNoRabbit(t *testing.T) {
	server := kubetest.NewWorkflows(t)
	server.React = doneAtOnce
	d := newDriver(t, server, nil)
	_, err := d.Setup(bounded(t), theJob, []string{"#DW Setup action=complete"})
	require.NoError(t, err)
	server.Change(func(o kubetest.Object) kubetest.Object {
		kubetest.Part(o, "status")["computes"] = kubetest.Object{"name": "bb12", "namespace": "slurm"}
		return o
	})
	_, err = d.PreRun(bounded(t), onNodes("c01"))
	require.NoError(t, err)
	delivery, err := d.Deliver(bounded(t), theJob, "c01")
	require.NoError(t, err)
	assert.NotContains(t, delivery.Env, "SLURMK8S_DW_RABBIT")
	assert.NotContains(t, delivery.Env, "SLURMK8S_DW_REQUIRES")
	assert.NotContains(t, kubetest.Meta(server.Current())["annotations"], annotationRabbits)
}

func TestTheTasksAreToldWhatTheirStorageRequires(t *testing.T) {
	for want, directives := range map[string][]any{
		"copy-offload":                     {"#DW jobdw type=gfs2 capacity=1GiB name=a requires=copy-offload"},
		"copy-offload,user-container-auth": {"#DW jobdw name=a requires=copy-offload", "#DW persistentdw name=b requires=copy-offload,user-container-auth"},
	} {
		p := newProvider(t)
		p.in(PreRun, xfs(gib))
		p.directives(directives...)
		delivery, err := p.driver(t).Deliver(bounded(t), theJob, "c01")
		require.NoError(t, err)
		assert.Equal(t, want, delivery.Env["SLURMK8S_DW_REQUIRES"])
	}
}
