package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

const (
	examplesFolder = "../../docs/examples"
	// programsFolder has what stands in for the programs of the examples, by their names.
	programsFolder = "testdata/programs"
	// usersExamples is alice's folder for them, and for what they tell each other.
	usersExamples = "/home/" + user + "/examples"
)

// examples say how each file of docs/examples is seen to work. Their names and ports are fixed, so
// they are run one after another, next to nothing else.
var examples = map[string]func(*testing.T, string){
	"arkouda.sh":      nil, // by crontab
	"crontab":         theServerAndItsExporterAreReached,
	"dask.sh":         theCubeIsNumPysThoughAWorkerIsPreempted, // with dask-workers.sh
	"dask-workers.sh": nil,
	"jupyter.sh":      theNotebookIsReached,
	"ray.sh":          theDashboardHasAllNodes,
	"vllm.sh":         theModelIsReachedWhenItIsLoaded,
}

func TestEachExampleHasATest(t *testing.T) {
	files, err := os.ReadDir(examplesFolder)
	require.NoError(t, err)
	for _, file := range files {
		require.Contains(t, examples, file.Name())
	}
	require.Len(t, files, len(examples))
}

func TestTheExamplesWork(t *testing.T) {
	alone(t)
	haveExamples(t)
	for _, file := range slices.Sorted(maps.Keys(examples)) {
		if run := examples[file]; run != nil {
			t.Run(file, func(t *testing.T) { run(t, file) })
		}
	}
}

// haveExamples gives alice the programs of the examples.
func haveExamples(t *testing.T) {
	t.Helper()
	programs, err := os.ReadDir(programsFolder)
	require.NoError(t, err)
	t.Cleanup(func() { admin(t, "rm", "-rf", usersExamples) })
	for _, program := range programs {
		text, err := os.ReadFile(filepath.Join(programsFolder, program.Name()))
		require.NoError(t, err)
		result, err := cluster.As(deadline(t, patience), user, string(text), "sh", "-c", `mkdir -p "$(dirname "$0")" && cat >"$0" && chmod +x "$0"`,
			usersExamples+"/bin/"+program.Name())
		require.NoError(t, err)
		require.Zero(t, result.Status, result.Stderr)
	}
}

// submitExample submits a file of docs/examples as it is.
func submitExample(t *testing.T, file string) *job {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examplesFolder, file))
	require.NoError(t, err)
	result, err := cluster.As(deadline(t, patience), user, string(text), "sh", "-c", "PATH="+usersExamples+"/bin:$PATH exec sbatch --parsable")
	require.NoError(t, err)
	require.Zero(t, result.Status, "sbatch: %s", result.Stderr)
	return adopt(t, parseID(t, result.Stdout))
}

// endsByScancel is the end of an example: nothing of it stays.
func (j *job) endsByScancel() {
	j.t.Helper()
	j.scancel()
	j.ends("CANCELLED")
	j.unregistered()
}

// portsOf are those of a Service: "dashboard:8265:8265", the last being the port on the node.
func portsOf(t *testing.T, namespace, name string) []string {
	t.Helper()
	u, err := cluster.Kube.Resource(service.Services).Namespace(namespace).Get(deadline(t, patience), name, metav1.GetOptions{})
	require.NoError(t, err)
	ports, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
	var found []string
	for _, p := range ports {
		p := p.(map[string]any)
		found = append(found, fmt.Sprintf("%v:%v:%v", p["name"], p["port"], p["targetPort"]))
	}
	return found
}

func theNotebookIsReached(t *testing.T, file string) {
	j := submitExample(t, file)
	j.serves(jobsNamespace, "jupyter")
	require.Equal(t, "a notebook", pageFrom(t, otherThan(t, j.node()), "http://jupyter.slurm-jobs.svc:8888/"))
	j.endsByScancel()
}

func theDashboardHasAllNodes(t *testing.T, file string) {
	j := submitExample(t, file)
	j.serves(jobsNamespace, "ray")
	require.Equal(t, []string{"dashboard:8265:8265", "client:10001:10001"}, portsOf(t, jobsNamespace, "ray"))
	other := otherThan(t, j.node())
	eventually.Equal(t, "nodes: "+other, func() string { return pageFrom(t, other, "http://ray.slurm-jobs.svc:8265/") })
	require.Equal(t, "ray", pageFrom(t, other, "http://ray.slurm-jobs.svc:10001/"))
	j.endsByScancel()
}

func theModelIsReachedWhenItIsLoaded(t *testing.T, file string) {
	j := submitExample(t, file)
	eventually.Equal(t, []string{j.address() + " not ready"}, func() []string { return endpoints(t, jobsNamespace, "vllm") })
	where, err := cluster.Node(j.node())
	require.NoError(t, err)
	eventually.True(t, "the server answers", func() bool {
		_, err := cluster.On(deadline(t, patience), where, "curl", "--silent", "http://localhost:8000/health")
		return err == nil
	})
	require.Equal(t, []string{j.address() + " not ready"}, endpoints(t, jobsNamespace, "vllm"))
	admin(t, "touch", usersExamples+"/loaded")
	j.serves(jobsNamespace, "vllm")
	require.Equal(t, "a model", pageFrom(t, otherThan(t, j.node()), "http://vllm.slurm-jobs.svc:8000/v1/models"))
	j.endsByScancel()
}
