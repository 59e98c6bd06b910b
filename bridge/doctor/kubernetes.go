package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func lookController(ctx context.Context, h *host, r *report) {
	path := h.cfg.Kubernetes.Kubeconfig
	client := h.access(ctx, r, path, "run slurmk8s setup, or slurmk8s setup --renew, with an administrator's --kubeconfig")
	if client == nil {
		return
	}
	h.duties(ctx, r, client, false)
	if c, err := kube.ReadCredential(path, h.trustedOwners()...); err == nil && c.TokenFile != "" && strings.HasSuffix(c.User, ":"+manifests.Controller) {
		// Its own token is renewed with this right.
		h.rights(ctx, r, client, duty.Rights{Role: manifests.ControllerToken, Namespace: manifests.Namespace, Optional: []string{duty.Everything}})
	}
}

// uptake is how long DWS may leave a new Workflow without any status.
const uptake = time.Minute

func lookDWS(ctx context.Context, h *host, r *report) {
	client := h.silentClient(h.cfg.Kubernetes.Kubeconfig)
	if client == nil || !h.workflows() {
		return // lookController says it
	}
	const group = "dataworkflowservices.github.io"
	version, err := client.PreferredVersion(ctx, group)
	switch {
	case kube.Is(err, kube.Unserved):
		r.fail("install DWS in Kubernetes, or remove BurstBufferType from slurm.conf", "DWS is not installed: no API group %s", group)
		return
	case err != nil:
		r.fail("", "%v", err)
		return
	}
	namespace := h.cfg.Workflows.Namespace
	workflows := client.Objects(version.WithResource("workflows"), namespace)
	list, err := workflows.List(ctx, kube.Selection{Limit: 500})
	if err != nil {
		if !kube.Is(err, kube.Denied) { // lookController says it
			r.fail("", "%v", err)
		}
		return
	}
	// Its webhooks judge a dry run as they do at a submission.
	err = workflows.Check(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": version.String(), "kind": "Workflow", "metadata": map[string]any{"name": "slurmk8s-doctor"},
		"spec": map[string]any{"desiredState": "Proposal", "wlmID": h.cfg.Cluster, "jobID": int64(0), "userID": int64(0), "groupID": int64(0), "dwDirectives": []any{}},
	}})
	if kube.Is(err, kube.Transient) {
		r.fail("check DWS's webhook: kubectl get pods -A | grep dws", "%v", err)
	}
	for _, w := range list {
		state, _, _ := unstructured.NestedString(w.Object, "status", "state")
		if age := h.o.Now().Sub(w.GetCreationTimestamp().Time); state == "" && age > uptake {
			r.fail("check the DWS controller: kubectl get pods -A | grep dws", "workflow %s/%s has been waiting for DWS for %s: the DWS controller does not run", namespace, w.GetName(), age.Round(time.Second))
			break
		}
	}
	storageNamespace(ctx, r, client.Objects(version.WithResource("systemconfigurations"), "default"), namespace)
	r.good("%s, %d workflows in namespace %s", version, len(list), namespace)
}

// storageNamespace judges the namespace of Workflows where storage is mounted on nodes. The
// controllers of NNF on rabbits and nodes know no other namespace than default: a Workflow
// elsewhere never gets its mounts, and its Teardown never ends (seen with nnf-sos 7249600).
func storageNamespace(ctx context.Context, r *report, systems *kube.Objects, namespace string) {
	system, err := systems.Get(ctx, "default")
	if err != nil || system == nil || namespace == "default" {
		return // without the right to look there is no such storage, or lookController says it
	}
	if rabbits, _, _ := unstructured.NestedSlice(system.Object, "spec", "storageNodes"); len(rabbits) > 0 {
		r.fail(`set workflows.namespace = "default" in slurmk8s.toml, and run slurmk8s setup`,
			"SystemConfiguration default/default has %d storage nodes, and Workflows are in namespace %s: NNF mounts storage for Workflows in namespace default only", len(rabbits), namespace)
	}
}

// silentClient is a client for a second look with a credential.
func (h *host) silentClient(path string) *kube.Client {
	return h.access(context.Background(), &report{}, path, "")
}

func lookNode(ctx context.Context, h *host, r *report) {
	if len(h.needed(true)) == 0 {
		return
	}
	client := h.access(ctx, r, h.cfg.Services.Kubeconfig, "run slurmk8s setup --output DIR with an administrator's --kubeconfig, and copy the node's file here")
	if client != nil {
		h.duties(ctx, r, client, true)
		h.tokens(ctx, r, client)
	}
}

// tokens tells a node that must not have workflows.token = "job".
func (h *host) tokens(ctx context.Context, r *report, client *kube.Client) {
	if h.cfg.Workflows.Token != slurmconf.TokenJob {
		return
	}
	if err := workflow.OwnCredential(h.cfg.Services.Kubeconfig, h.o.NodeName); err != nil {
		r.fail(`run slurmk8s setup for a credential for each node, or set workflows.token = "off"`, "%v", err)
	}
	namespace := h.cfg.Workflows.Namespace
	all, err := may(ctx, client, manifests.Rule{Verb: "get", Resource: "secrets"}, namespace)
	switch {
	case err != nil:
		r.fail("", "%v", err)
	case all:
		r.fail("take the right away: while a job runs, its nodes are given the right to read its token",
			"this node may read all Secrets of namespace %s, the tokens of all jobs among them", namespace)
	}
}

// foreignAddress belongs to nobody (RFC 5737): no node may publish it.
const foreignAddress = "192.0.2.1"

// lookAdmission tries, without storing anything, whether this node may publish its
// own address and may not publish another one.
func lookAdmission(ctx context.Context, h *host, r *report) {
	if !h.services() {
		return
	}
	client := h.silentClient(h.cfg.Services.Kubeconfig)
	if client == nil {
		return // lookNode says it
	}
	address, err := h.o.Addresses.Find(ctx, h.cfg, h.o.NodeName)
	if err != nil {
		r.fail("set NodeAddr in slurm.conf, or services.address in slurmk8s.toml", "%v", err)
		return
	}
	for _, namespace := range h.cfg.Services.Named() {
		if err := h.publish(ctx, client, namespace, address.String()); err != nil {
			r.fail("run slurmk8s setup with --open "+namespace+", which opens the namespace and fills ConfigMap slurm/slurmk8s-nodes",
				"node %s may not publish its own address %s in namespace %s: %s", h.o.NodeName, address, namespace, kube.Reason(err))
			continue
		}
		if err := h.publish(ctx, client, namespace, foreignAddress); err == nil {
			r.fail("run slurmk8s setup, which installs ValidatingAdmissionPolicy slurmk8s-nodes and its binding",
				"node %s could publish any address in namespace %s: no admission policy confines its credential", h.o.NodeName, namespace)
		}
	}
	r.good("node %s may publish %s and no other address, in %s", h.o.NodeName, address, strings.Join(h.cfg.Services.Named(), ", "))
}

var endpointSlices = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}

// publish is a dry run of what a registration does with an address.
func (h *host) publish(ctx context.Context, client *kube.Client, namespace, address string) error {
	kind := "IPv4"
	if strings.Contains(address, ":") {
		kind = "IPv6"
	}
	return client.Objects(endpointSlices, namespace).Check(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
		"metadata":  map[string]any{"generateName": "slurmk8s-doctor-", "labels": job.Job{Cluster: h.cfg.Cluster}.Labels()},
		"endpoints": []any{map[string]any{"addresses": []any{address}}},
		"ports":     []any{map[string]any{"name": "doctor", "port": int64(1)}},
	}})
}

// lookKubelet checks the credential that takes and gives back this node.
func lookKubelet(ctx context.Context, h *host, r *report) {
	if !h.takesNode() {
		return
	}
	path := h.cfg.Nodes.Kubeconfig
	if _, err := os.Stat(path); os.IsNotExist(err) && path == slurmconf.KubeletKubeconfig {
		if seen := node.KubeletHere(); seen != "" {
			r.fail("set nodes.kubeconfig in slurmk8s.toml to the kubelet's --kubeconfig", "a kubelet runs on this host (%s), but its credential is in none of the usual places: no job reclaims this node", seen)
			return
		}
		r.ok("not used: there is no %s and no kubelet, so this host is not a Kubernetes node", path)
		return
	}
	client := h.access(ctx, r, path, "check the kubelet, which renews its own credential")
	if client == nil {
		return
	}
	name, err := node.New(client, &h.cfg.Nodes, h.cfg.Cluster, quiet()).Name(ctx, h.o.NodeName)
	var wrong *node.WrongNodeError
	if errors.As(err, &wrong) {
		r.fail(fmt.Sprintf("map node %s to %s by nodes.node_name in slurmk8s.toml, or set nodes.kubeconfig to this node's", wrong.SlurmNode, wrong.Kubelet), "%v", err)
		return
	}
	if err != nil {
		r.fail("check nodes.node_name in slurmk8s.toml", "%v", err)
		return
	}
	if name == "" {
		r.ok("not used: %s maps node %s to no Kubernetes node", h.cfg.Nodes.NodeName, h.o.NodeName)
		return
	}
	// Tried without effect, not asked for: NodeRestriction, which confines a kubelet to
	// its own node, is no authorizer.
	err = client.Do(ctx, "try to cordon node "+name, func(ctx context.Context) error {
		_, err := client.Dynamic.Resource(node.Nodes).Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`),
			metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: kube.FieldManager})
		return err
	})
	switch {
	case kube.Is(err, kube.NotFound):
		r.ok("not used: Kubernetes has no node %s", name)
		return
	case err != nil:
		r.fail("set nodes.kubeconfig to that of this node's kubelet, or nodes.node_name to match its name in Kubernetes", "%v", err)
	}
	compare(ctx, r, client, []manifests.Rule{{Resource: "pods", Subresource: "eviction", Verb: "create"}}, "the kubelet of node "+name, "", func(manifests.Rule) bool { return true })
}
