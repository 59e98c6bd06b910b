package bundle

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
)

// folderOf writes a bundle called b.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "b")
	require.NoError(t, os.Mkdir(dir, 0o755))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

const onePhase = "\n[[phase]]\nfiles = [\"o.yaml\"]\n"

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n"

// of loads a bundle of one file. manifest is what bundle.toml says before its phase.
func of(t *testing.T, manifest, object string) (*Bundle, error) {
	t.Helper()
	return Load(folderOf(t, map[string]string{manifestName: manifest + onePhase, "o.yaml": object}))
}

var alice = Facts{
	Job:     job.Job{Cluster: "c1", ID: 42, UID: 1001, User: "alice", SubmitTime: "1700000000"},
	Account: "physics", Partition: "p", Nodes: 3, BatchHost: "n1",
}

func request(values map[string]string) Request {
	return Request{Name: "b", Instance: "b", Namespace: "ns", Values: values}
}

// expandOne expands a bundle of one object.
func expandOne(t *testing.T, b *Bundle, values map[string]string) (*unstructured.Unstructured, error) {
	t.Helper()
	out, err := b.Expand(request(values), alice)
	if err != nil {
		return nil, err
	}
	require.Len(t, out.Phases, 1)
	require.Len(t, out.Phases[0].Objects, 1)
	return out.Phases[0].Objects[0], nil
}
