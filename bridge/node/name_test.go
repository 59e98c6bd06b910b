package node

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/apiserver/pki"
)

// driverAs has the credential of a user, for an API server that refuses everything.
func driverAs(t *testing.T, user, rule string) (*Driver, *kubetest.Server) {
	t.Helper()
	server := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Status(w, http.StatusForbidden, "Forbidden", "no")
	})
	authority, err := pki.NewCA("test")
	require.NoError(t, err)
	pair, err := authority.Client(user)
	require.NoError(t, err)
	path := kubetest.WriteKubeconfig(t, server.URL, server.CA, fmt.Sprintf("client-certificate-data: %s\nclient-key-data: %s",
		base64.StdEncoding.EncodeToString(pair.Cert), base64.StdEncoding.EncodeToString(pair.Key)))
	client, err := kube.New(kube.Options{Kubeconfig: path, RequestTimeout: 1e9})
	require.NoError(t, err)
	cfg := slurmconf.Default().Nodes
	cfg.NodeName = rule
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	return New(client, &cfg, "alps", logrus.NewEntry(silent)), server
}

func TestANodeNameIsComparedWithTheKubeletsCredential(t *testing.T) {
	tests := []struct{ user, rule, slurmNode, want, err string }{
		{"system:node:nc1", "same", "NC1", "nc1", ""},
		{"system:node:nc1", "same", "Rack_0-N1", "",
			`nodes.node_name = "same" says that Slurm's node Rack_0-N1 is Kubernetes's node rack_0-n1, but nodes.kubeconfig is the credential of node nc1: correct node_name`},
		{"system:node:ip-10-0-0-7.ec2.internal", "suffix:.compute.internal", "ip-10-0-0-7", "",
			`nodes.node_name = "suffix:.compute.internal" says that Slurm's node ip-10-0-0-7 is Kubernetes's node ip-10-0-0-7.compute.internal, but nodes.kubeconfig is the credential of node ip-10-0-0-7.ec2.internal: correct node_name`},
		{"slurmk8s:node:nc1", "same", "c2", "c2", ""},
	}
	for _, tt := range tests {
		driver, _ := driverAs(t, tt.user, tt.rule)
		name, err := driver.Name(t.Context(), tt.slurmNode)
		assert.Equal(t, tt.want, name)
		if tt.err == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, tt.err)
		}
	}
}

func TestANodeThatCannotBeTakenLeavesNoFile(t *testing.T) {
	claim := Claim{Cluster: "alps", JobID: 12, Mode: Reclaim}
	for name, user := range map[string]string{"another node's credential": "system:node:nc1", "a credential without rights": "somebody"} {
		t.Run(name, func(t *testing.T) {
			driver, server := driverAs(t, user, "same")
			local := ClaimFilesIn(t.TempDir())
			_, err := driver.Take(t.Context(), local, "c2", claim, Terms{})
			require.Error(t, err)
			assert.Equal(t, user == "somebody", len(server.Requests()) > 0)
			files, err := local.Jobs()
			require.NoError(t, err)
			assert.Empty(t, files)
		})
	}
}

// node_name was corrected while a job had a file with the former name.
func TestAFileOfANodeThatTheCredentialNeverChangedIsForgotten(t *testing.T) {
	driver, server := driverAs(t, "system:node:nc1", "same")
	local := ClaimFilesIn(t.TempDir())
	require.NoError(t, local.Add(FiledClaim{Claim: Claim{Cluster: "alps", JobID: 12, Mode: Reclaim}, Node: "rack_0-n1"}))
	require.NoError(t, driver.GiveBack(t.Context(), local, 12, 0))
	assert.Empty(t, server.Requests())
	files, err := local.Jobs()
	require.NoError(t, err)
	assert.Empty(t, files)
}

func TestAllNodesArePairedWithoutARequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes.map")
	require.NoError(t, os.WriteFile(path, []byte("C1 k1\nc2 k2\nc3 k2\n"), 0o644))
	node := func(name, label string) unstructured.Unstructured {
		u := unstructured.Unstructured{}
		u.SetName(name)
		if label != "" {
			u.SetLabels(map[string]string{"slurm": label})
		}
		return u
	}
	tests := []struct {
		rule  string
		nodes []unstructured.Unstructured
		want  map[string]string
		odd   []string
	}{
		{"same", []unstructured.Unstructured{node("c1", ""), node("c2", ""), node("pods-only", "")}, map[string]string{"C1": "c1", "c2": "c2"}, nil},
		{"suffix:.example.org", []unstructured.Unstructured{node("c1.example.org", ""), node("c2", "")}, map[string]string{"C1": "c1.example.org"}, nil},
		{"label:slurm", []unstructured.Unstructured{node("k1", "C1"), node("k2", "c2"), node("k3", "c2"), node("k4", "")}, map[string]string{"C1": "k1"},
			[]string{"2 Kubernetes nodes are Slurm's node c2: k2 and others"}},
		{"map:" + path, []unstructured.Unstructured{node("k1", ""), node("k2", "")}, map[string]string{"C1": "k1"},
			[]string{"Kubernetes node k2 is 2 Slurm nodes: c2 and others"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			pairs, odd, err := (&Driver{Cfg: config(func(c *slurmconf.NodeSettings) { c.NodeName = tt.rule })}).Pair([]string{"c3", "c2", "C1"}, tt.nodes)
			require.NoError(t, err)
			got := map[string]string{}
			for slurm, node := range pairs {
				got[slurm] = node.GetName()
			}
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.odd, odd)
		})
	}
}
