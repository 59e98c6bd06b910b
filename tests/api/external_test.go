package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// external says that the tests use the DWS that is installed in the cluster of $KUBECONFIG.
var external = os.Getenv("DWS") == "external"

// leftOut names the tests that need more than the external DWS has.
var leftOut struct {
	sync.Mutex
	tests []string
}

// simulatorOnly leaves a test out if DWS is external.
func simulatorOnly(t *testing.T, needs string) {
	t.Helper()
	if external {
		leaveOut(t, needs)
	}
}

func leaveOut(t *testing.T, needs string) {
	t.Helper()
	leftOut.Lock()
	leftOut.tests = append(leftOut.tests, t.Name()+": it needs "+needs)
	leftOut.Unlock()
	t.Skip("left out: it needs " + needs)
}

// reportLeftOut says at the end what an external DWS was not asked.
func reportLeftOut() {
	if !external {
		return
	}
	slices.Sort(leftOut.tests)
	fmt.Printf("external DWS: %d tests were left out\n", len(leftOut.tests))
	for _, line := range leftOut.tests {
		fmt.Println("  " + line)
	}
}

// abilities are what some directives need of DWS: a probe that gets ready in Proposal shows that
// it is there.
var abilities = []struct {
	name, probe string
	needed      *regexp.Regexp
}{
	{"the test driver", "#DW Proposal action=complete", regexp.MustCompile(`^#DW (` + strings.Join(dwssim.States, "|") + `) `)},
	{"a provider that makes storage", "#DW jobdw type=xfs capacity=1GiB name=probe", regexp.MustCompile(`^#DW (jobdw|copy_|create_|destroy_|persistentdw|container)`)},
	{"the simulator's own arguments", "#DW Proposal action=complete delay=1ms env=A:b", regexp.MustCompile(` (delay|env)=`)},
}

// able leaves a test out if the external DWS lacks what its directives need.
func (c *cluster) able(t *testing.T, directives []string) {
	t.Helper()
	for i, ability := range abilities {
		if c.lacks[i] && slices.ContainsFunc(directives, ability.needed.MatchString) {
			leaveOut(t, ability.name)
		}
	}
}

// startExternal finds out what the external DWS can do.
func startExternal(ctx context.Context) (*cluster, error) {
	file := os.Getenv("KUBECONFIG")
	if file == "" {
		return nil, errors.New("DWS=external needs KUBECONFIG, the file of an administrator of the cluster")
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	if len(config.CAData) == 0 {
		return nil, fmt.Errorf("KUBECONFIG: %s has no certificate authority: give certificate-authority", file)
	}
	config.QPS = -1
	admin, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := &cluster{config: config, admin: admin, lacks: map[int]bool{}}
	if c.stored, err = dwssim.StorageVersion(ctx, admin); err != nil {
		return nil, fmt.Errorf("is DWS installed? %w", err)
	}
	for i, ability := range abilities {
		if err := c.probe(ctx, ability.probe); err != nil {
			fmt.Printf("external DWS: without %s: %v\n", ability.name, err)
			c.lacks[i] = true
		}
	}
	if len(c.lacks) == len(abilities) {
		return nil, errors.New("the external DWS handles none of the directives of these tests")
	}
	return c, nil
}

// probe takes a Workflow with a directive through Proposal.
func (c *cluster) probe(ctx context.Context, directive string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	workflow := &dwssim.Workflow{
		TypeMeta:   metav1.TypeMeta{APIVersion: dwssim.Group + "/" + c.version(), Kind: "Workflow"},
		ObjectMeta: metav1.ObjectMeta{Name: namePrefix + "probe"},
		Spec:       dwssim.WorkflowSpec{DesiredState: dwssim.Proposal, WLMID: "slurmk8s-test", DWDirectives: []string{directive}},
	}
	object, err := workflow.Unstructured()
	if err != nil {
		return err
	}
	workflows := c.admin.Resource(dwssim.WorkflowsResource(c.version())).Namespace(metav1.NamespaceDefault)
	if _, err := workflows.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, ready := dwssim.WaitFor(ctx, c.admin, metav1.NamespaceDefault, workflow.Name, "to be ready", dwssim.Ready(dwssim.Proposal))
	if err := workflows.Delete(context.WithoutCancel(ctx), workflow.Name, metav1.DeleteOptions{}); err != nil {
		return errors.Join(ready, err)
	}
	for ready == nil {
		_, err := workflows.Get(ctx, workflow.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(errors.New("its Workflow is not gone after it was deleted"), err)
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	return ready
}

// namePrefix keeps the objects of these tests apart from all others in an external cluster.
var namePrefix = func() string {
	if !external {
		return "slurm-"
	}
	return fmt.Sprintf("slurmk8s-test-%x-", time.Now().UnixMilli())
}()

// leaveNothing removes a site from an external cluster.
func (s *site) leaveNothing() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := s.workflows().List(ctx, metav1.ListOptions{})
	assert.NoError(s.t, err)
	if err == nil {
		for i := range list.Items {
			_ = s.workflows().Delete(ctx, list.Items[i].GetName(), metav1.DeleteOptions{})
		}
	}
	assert.NoError(s.t, s.c.admin.Resource(namespaces).Delete(ctx, s.namespace, metav1.DeleteOptions{}))
}

func TestDirectivesNeedAbilities(t *testing.T) {
	tests := []struct {
		directive string
		needs     []string
	}{
		{"#DW Setup action=wait", []string{"the test driver"}},
		{"#DW Setup action=complete delay=1s", []string{"the test driver", "the simulator's own arguments"}},
		{"#DW jobdw type=xfs capacity=1GiB name=ab", []string{"a provider that makes storage"}},
		{"#DW no-such-command", nil},
	}
	for _, tt := range tests {
		t.Run(tt.directive, func(t *testing.T) {
			var needs []string
			for _, ability := range abilities {
				if ability.needed.MatchString(tt.directive) {
					needs = append(needs, ability.name)
				}
			}
			require.Equal(t, tt.needs, needs)
		})
	}
}
