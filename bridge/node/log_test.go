package node

import (
	"net/http"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// SLURMK8S_UID in the journal selects a user's lines: a Node's UID is another field.
func TestTheLogTellsAUserFromANode(t *testing.T) {
	server := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		kubetest.JSON(w, http.StatusOK, kubetest.Object{"apiVersion": "v1", "kind": "Node", "metadata": kubetest.Object{"name": "c1", "uid": "uid-of-c1"}})
	})
	client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(), RequestTimeout: 1e9})
	require.NoError(t, err)
	logger, hook := test.NewNullLogger()
	cfg := slurmconf.Default().Nodes
	driver := New(client, &cfg, "alps", logger.WithFields(logrus.Fields{"job": 12, "uid": 1000}))
	known, err := driver.Claim(t.Context(), "c1", Claim{Cluster: "alps", JobID: 12, Mode: Reclaim})
	require.NoError(t, err)
	require.True(t, known)
	require.Len(t, hook.AllEntries(), 1)
	assert.Equal(t, logrus.Fields{"job": 12, "uid": 1000, "node": "c1", "object_uid": "uid-of-c1"}, hook.LastEntry().Data)
}
