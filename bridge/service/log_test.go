package service

import (
	"fmt"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// SLURMK8S_UID in the journal selects a user's lines: an object's UID is another field.
func TestTheLogTellsAUserFromAnObject(t *testing.T) {
	r := wireRegistrar(t, kubetest.New(t, memory{}.ServeHTTP))
	logger, hook := test.NewNullLogger()
	r.Log = logger.WithFields(logrus.Fields{"job": r.Job.ID, "uid": r.Job.UID})
	specs, err := Parse("name=a,port=1,ns=jobs", nil)
	require.NoError(t, err)
	regs, err := r.Register(t.Context(), specs)
	require.NoError(t, err)
	require.NoError(t, r.Deregister(t.Context(), regs))
	var changes []string
	for _, e := range hook.AllEntries() {
		assert.Equal(t, r.Job.UID, e.Data["uid"], e.Message)
		if of := e.Data["object_uid"]; of != nil {
			changes = append(changes, fmt.Sprintf("%s (%s)", e.Message, of))
		}
	}
	assert.Equal(t, []string{"service jobs/a: created (uid-of-a)", "endpointslice jobs/a.alps.12.c1: deleted (uid-of-a.alps.12.c1)",
		"service jobs/a: deleted (uid-of-a)", "lease jobs/slurm-alps-12: deleted (uid-of-slurm-alps-12)"}, changes)
}
