package bundles

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

var (
	workflows         = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "workflows"}
	workflowTemplates = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "workflowtemplates"}
	cronWorkflows     = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "cronworkflows"}
	definitions       = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

	defineOnce sync.Once
)

// define makes the kinds of Argo and of prometheus-operator, with any fields, as Argo's minimal
// definitions do. Nothing controls them.
func (w *world) define() {
	w.t.Helper()
	defineOnce.Do(func() {
		for _, d := range [][3]string{
			{"argoproj.io", "v1alpha1", "Workflow"}, {"argoproj.io", "v1alpha1", "WorkflowTemplate"}, {"argoproj.io", "v1alpha1", "CronWorkflow"}, {"monitoring.coreos.com", "v1", "ServiceMonitor"},
		} {
			singular := strings.ToLower(d[2])
			_, err := w.admin.Resource(definitions).Create(w.t.Context(), phase("", "", "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: "+
				singular+"s."+d[0]+"}, spec: {group: "+d[0]+", scope: Namespaced, names: {kind: "+d[2]+", singular: "+singular+", plural: "+singular+"s}, "+
				"versions: [{name: "+d[1]+", served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}").Objects[0],
				metav1.CreateOptions{})
			require.NoError(w.t, err)
		}
	})
	for _, gvr := range []schema.GroupVersionResource{workflows, workflowTemplates, cronWorkflows, {Group: "monitoring.coreos.com", Version: "v1", Resource: "servicemonitors"}} {
		eventually.Equal(w.t, false, func() bool {
			_, err := w.admin.Resource(gvr).Namespace(w.namespace).List(w.t.Context(), metav1.ListOptions{})
			return apierrors.IsNotFound(err)
		})
	}
}

// shipped is a bundle of the packages for job 12.
func (w *world) shipped(d driver, option string) stage.Set {
	w.t.Helper()
	requests, err := bundle.ParseOption(option)
	require.NoError(w.t, err)
	b, err := bundle.LoadUntrusted(filepath.Join("../../packaging/bundles", requests[0].Name))
	require.NoError(w.t, err)
	requests[0].Namespace = w.namespace
	out, err := b.Expand(requests[0], bundle.Facts{Job: d.Job, Account: "physics", Partition: "p", Nodes: 1, BatchHost: "node"})
	require.NoError(w.t, err)
	return stage.Of(out)
}

func (w *world) template(name string, parameters string) {
	w.t.Helper()
	w.create(workflowTemplates, "{apiVersion: argoproj.io/v1alpha1, kind: WorkflowTemplate, metadata: {name: "+name+"}, spec: {arguments: {parameters: "+parameters+"}}}")
}

func TestKubernetesTakesEachShippedBundle(t *testing.T) {
	w := newWorld(t)
	w.define()
	w.template("deploy", "[{name: a}]")
	w.template("undo", "[]")
	names, err := bundle.Names([]string{"../../packaging/bundles"})
	require.NoError(t, err)
	tried := 0
	for _, option := range []string{
		"arkouda-exporter,server=s,host=h.arkouda,match=release:kube-stack", "arkouda-on-kubernetes,match=release:kube-stack,locales=3",
		"argo,template=deploy,delete=undo,p.a=b", "arkouda-cron,deploy_template=deploy,p.a=b,delete_template=undo", "jupyter-proxy", "service-monitor",
	} {
		d := w.driver(12)
		assert.NoError(t, d.Check(t.Context(), w.shipped(d, option)), option)
		tried++
	}
	assert.Len(t, names, tried)
	assert.Empty(t, w.names(), "a dry run")
}

func TestTheClockOfAStandingBundleIsChanged(t *testing.T) {
	w := newWorld(t)
	w.define()
	w.template("deploy", "[{name: a}]")
	w.template("undo", "[]")
	d := w.administrator()
	clock := func(more string) stage.Set {
		return w.shipped(d, "arkouda-cron,deploy_template=deploy,p.a=b,delete_template=undo"+more)
	}
	require.NoError(t, w.up(d, clock("")))
	schedule := func() any {
		u := w.get(cronWorkflows, "arkouda-cron-deploy")
		schedules, _, _ := unstructured.NestedStringSlice(u.Object, "spec", "schedules")
		return schedules
	}
	assert.Equal(t, []string{"0 7 * * *"}, schedule())
	diff, err := d.Diff(t.Context(), d.marked(clock(",deploy=0%206%20*%20*%20*")))
	require.NoError(t, err)
	assert.Equal(t, []stage.Difference{{
		Object: "cronworkflow " + w.namespace + "/arkouda-cron-deploy", Changes: []string{`spec.schedules: ["0 7 * * *"] -> ["0 6 * * *"]`},
	}}, diff)
	require.NoError(t, w.up(d, clock(",deploy=0%206%20*%20*%20*")))
	assert.Equal(t, []string{"0 6 * * *"}, schedule())
	require.ErrorContains(t, w.up(d, clock(",p.c=d")), `has no parameter "c"`)
	found, err := d.Down(t.Context(), w.namespace, "arkouda-cron")
	require.NoError(t, err)
	assert.True(t, found)
	_, err = w.admin.Resource(cronWorkflows).Namespace(w.namespace).Get(t.Context(), "arkouda-cron-deploy", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err))
}

func TestTheArgumentsOfAWorkflowAreComparedWithItsTemplate(t *testing.T) {
	w := newWorld(t)
	w.define()
	w.template("deploy", "[{name: app-name}, {name: interval, value: '15'}]")
	d := w.driver(12)
	for option, want := range map[string]string{
		"argo,template=deploy,p.app-nme=x":              "bundle argo: WorkflowTemplate " + w.namespace + `/deploy has no parameter "app-nme": did you mean app-name?`,
		"argo,template=deploy,p.interval=20":            "bundle argo: WorkflowTemplate " + w.namespace + `/deploy needs the parameter "app-name"`,
		"argo,template=deplooy":                         "bundle argo: workflowtemplate " + w.namespace + "/deplooy does not exist",
		"argo,template=deploy,p.app-name=x,delete=undo": "bundle argo: workflowtemplate " + w.namespace + "/undo does not exist",
	} {
		set := w.shipped(d, option)
		assert.EqualError(t, d.Check(t.Context(), set), want)
		if len(set.Last) == 0 {
			assert.EqualError(t, d.Bring(t.Context(), set, eventually.Patience), want, "Slurm 22.05 does not judge it at the prompt")
			require.NoError(t, d.End(t.Context(), w.namespace))
		}
	}
	list, err := w.admin.Resource(workflows).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list.Items)
}

// The job waits for its Workflow; at the end another one runs, with those of the arguments that
// its template names.
func TestAWorkflowRunsBeforeTheJobAndAnotherAtItsEnd(t *testing.T) {
	w := newWorld(t)
	w.define()
	w.template("deploy", "[{name: app-name}, {name: interval}]")
	w.template("undo", "[{name: app-name}]")
	d := w.driver(12)
	set := w.shipped(d, "argo,template=deploy,delete=undo,p.app-name=x,p.interval=20")
	set.DeleteTimeout = eventually.Patience
	require.NoError(t, d.Check(t.Context(), set))

	done := make(chan error, 1)
	go func() { done <- d.Bring(context.Background(), set, eventually.Patience) }()
	w.finish("argo-12", "Succeeded")
	require.NoError(t, <-done)
	parameters := func(name string) any {
		value, _, err := unstructured.NestedSlice(w.get(workflows, name).Object, "spec", "arguments", "parameters")
		require.NoError(t, err)
		return value
	}
	appName := map[string]any{"name": "app-name", "value": "x"}
	assert.Equal(t, []any{appName, map[string]any{"name": "interval", "value": "20"}}, parameters("argo-12"))

	go func() { done <- d.End(context.Background(), w.namespace) }()
	w.exists("argo-12-delete")
	assert.Equal(t, []any{appName}, parameters("argo-12-delete"))
	w.finish("argo-12-delete", "Succeeded")
	require.NoError(t, <-done)
	list, err := w.admin.Resource(workflows).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list.Items)
	assert.Empty(t, w.names())
}

func TestAWorkflowThatFailsIsTheReason(t *testing.T) {
	w := newWorld(t)
	w.define()
	w.template("deploy", "[]")
	d := w.driver(12)
	done := make(chan error, 1)
	go func() {
		done <- d.Bring(context.Background(), w.shipped(d, "argo,template=deploy"), eventually.Patience)
	}()
	w.finish("argo-12", "Failed")
	require.ErrorContains(t, <-done, "no space left")
	require.NoError(t, d.End(t.Context(), w.namespace))
}

func (w *world) exists(workflow string) {
	w.t.Helper()
	eventually.Equal(w.t, true, func() bool {
		_, err := w.admin.Resource(workflows).Namespace(w.namespace).Get(w.t.Context(), workflow, metav1.GetOptions{})
		return err == nil
	})
}

// finish is what Argo's controller does in the end.
func (w *world) finish(workflow, as string) {
	w.t.Helper()
	w.exists(workflow)
	time.Sleep(50 * time.Millisecond) // so that it is waited for
	_, err := w.admin.Resource(workflows).Namespace(w.namespace).Patch(w.t.Context(), workflow, "application/merge-patch+json",
		[]byte(`{"status":{"phase":"`+as+`","message":"no space left"}}`), metav1.PatchOptions{})
	require.NoError(w.t, err)
}
