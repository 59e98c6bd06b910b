package workflow

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

func TestWhatIsNotOursIsNotTouched(t *testing.T) {
	for name, change := range map[string]func(labels kubetest.Object){
		"without labels":          func(l kubetest.Object) { clear(l) },
		"another cluster's":       func(l kubetest.Object) { l[job.LabelCluster] = "other" },
		"managed by another tool": func(l kubetest.Object) { l[job.LabelManagedBy] = "flux" },
	} {
		t.Run(name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(func(o kubetest.Object) kubetest.Object {
				o = is(Setup, Setup, true, "Completed")(o)
				change(kubetest.Part(kubetest.Meta(o), "labels"))
				return o
			})
			d := newDriver(t, s, nil)
			before := s.Current()
			_, err := d.Setup(bounded(t), theJob, []string{"#DW a"})
			require.ErrorContains(t, err, "was not made by slurmk8s for cluster hpc; it was left alone")
			_, err = d.Await(bounded(t), theJob, DataIn)
			require.ErrorContains(t, err, "it was left alone")
			_, err = d.Teardown(bounded(t), theJob)
			require.NoError(t, err)
			_, err = d.Status(bounded(t), theJob, 0, true)
			require.ErrorContains(t, err, "has no workflow")
			assert.Equal(t, before, s.Current())
			for _, method := range []string{"PATCH", "DELETE", "PUT"} {
				assert.Zero(t, s.Count(method, ""), method)
			}
		})
	}
}

func TestSetupMakesAnewWhatIsOfAnotherRun(t *testing.T) {
	directives := []string{"#DW a"}
	same := func(o kubetest.Object) kubetest.Object {
		o = is(Setup, Setup, true, "Completed")(o)
		kubetest.Part(o, "spec")["userID"] = 1000
		kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW a"}
		annotations := kubetest.Part(kubetest.Meta(o), "annotations")
		annotations[job.AnnotationRestart], annotations[job.AnnotationSubmitTime] = "0", "100"
		return o
	}
	this := &Job{Job: job.Job{Cluster: "hpc", ID: 12, UID: 1000, SubmitTime: "100"}}
	tests := []struct {
		name   string
		job    Job
		change func(o kubetest.Object)
		anew   bool
	}{
		{"the same run again", *this, func(kubetest.Object) {}, false},
		{"22.05 tells neither restarts nor time", Job{Job: job.Job{Cluster: "hpc", ID: 12, UID: 1000, Restarts: job.AnyRun}}, func(kubetest.Object) {}, false},
		{"requeued", Job{Job: job.Job{Cluster: "hpc", ID: 12, UID: 1000, Restarts: 1, SubmitTime: "100"}}, func(kubetest.Object) {}, true},
		{"the id was used again", Job{Job: job.Job{Cluster: "hpc", ID: 12, UID: 1000, Restarts: 0, SubmitTime: "200"}}, func(kubetest.Object) {}, true},
		{"another owner", *this, func(o kubetest.Object) { kubetest.Part(o, "spec")["userID"] = 1001 }, true},
		{"other directives", *this, func(o kubetest.Object) { kubetest.Part(o, "spec")["dwDirectives"] = []any{"#DW b"} }, true},
		{"further than setup ever brings it", *this, func(o kubetest.Object) { is(PreRun, PreRun, true, "Completed")(o) }, true},
		{"in Teardown", *this, func(o kubetest.Object) { is(Teardown, Teardown, true, "Completed")(o) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewWorkflows(t)
			s.Change(func(o kubetest.Object) kubetest.Object { o = same(o); tt.change(o); return o })
			s.React = doneAtOnce
			_, err := newDriver(t, s, nil).Setup(bounded(t), &tt.job, directives)
			require.NoError(t, err)
			assert.Equal(t, tt.anew, kubetest.Meta(s.Current())["uid"] != "u1")
			assert.Equal(t, "Setup", kubetest.Part(s.Current(), "spec")["desiredState"])
		})
	}
}
