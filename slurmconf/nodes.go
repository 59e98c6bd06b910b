package slurmconf

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// KubeletKubeconfig is the kubelet's own credential, where kubeadm puts it. It is the
// default of nodes.kubeconfig on a host that has none of the usual ones: such a host is
// not a Kubernetes node, unless a kubelet runs there.
const KubeletKubeconfig = "/etc/kubernetes/kubelet.conf"

// kubeletKubeconfigs are the usual places of a kubelet's credential.
var kubeletKubeconfigs = []string{
	KubeletKubeconfig,
	"/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
	"/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
	"/var/lib/k0s/kubelet.conf",
	"/var/lib/kubelet/kubeconfig", // OpenShift, EKS, AKS, GKE
	"/var/snap/microk8s/current/credentials/kubelet.config",
}

// firstThere is the first of these files that exists; the first one if none does, for a
// message.
func firstThere(places []string) string {
	for _, path := range places {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return places[0]
}

// NodeSettings configure how a job takes a node from Kubernetes while it runs.
type NodeSettings struct {
	// Reclaim says which jobs do: ReclaimNone, ReclaimRequest or ReclaimAll.
	// Default: "none".
	Reclaim string `toml:"reclaim"`
	// ReclaimPartitions and ReclaimFeatures make all jobs of these partitions, and
	// those with one of these constraints, reclaim. Default: none.
	ReclaimPartitions []string `toml:"reclaim_partitions"`
	ReclaimFeatures   []string `toml:"reclaim_features"`
	// Kubeconfig is the absolute path of the credential of compute nodes. Default: the
	// first of kubeletKubeconfigs that exists.
	Kubeconfig string `toml:"kubeconfig"`
	// NodeName says how a Slurm node is named in Kubernetes: NodeNameSame, or one of the
	// other NodeName... followed by its value. Default: "same".
	NodeName string `toml:"node_name"`
	// Block says how a node is closed to new pods: BlockCordon, BlockTaint or
	// BlockBoth. The kubelet's credential may only cordon. Default: "cordon".
	Block string `toml:"block"`
	// Taint and LendTaint are KEY or KEY=VALUE of the taints (effect NoSchedule) of
	// a reclaimed and of a lent node, unless Block is "cordon".
	Taint     string `toml:"taint"`
	LendTaint string `toml:"lend_taint"`
	// EvictGrace bounds the time that a pod may take to end: the smaller one of this
	// and the pod's own counts. A job may ask for MinEvictGrace to MaxEvictGrace.
	EvictGrace    Duration `toml:"evict_grace"`
	MinEvictGrace Duration `toml:"min_evict_grace"`
	MaxEvictGrace Duration `toml:"max_evict_grace"`
	// EvictTimeout is how long a job waits for disruption budgets. A job may ask for
	// up to MaxEvictTimeout.
	EvictTimeout    Duration `toml:"evict_timeout"`
	MaxEvictTimeout Duration `toml:"max_evict_timeout"`
	// EvictPolicy says what happens to pods that are still there then: EvictDelete,
	// EvictFail or EvictIgnore. JobPolicies are those that a job may ask for.
	EvictPolicy string   `toml:"evict_policy"`
	JobPolicies []string `toml:"job_policies"`
	// What happens to pods of each kind: PodEvict, PodKeep or PodFail.
	DaemonSets string `toml:"daemonsets"`
	Tolerating string `toml:"tolerating"`
	Unmanaged  string `toml:"unmanaged"`
	EmptyDir   string `toml:"emptydir"`
	// Settle is how long to wait, after the node was closed, for pods that the scheduler
	// had already bound to it.
	Settle Duration `toml:"settle"`
	// APITimeout bounds the requests that close and open a node.
	APITimeout Duration `toml:"api_timeout"`
	// OnError says what happens to a job when a node cannot be reclaimed:
	// OnErrorRequeue, OnErrorProceed or OnErrorFail. Default: "requeue".
	OnError string `toml:"on_error"`
	// Kubelet is KubeletKeep or KubeletStop: Units, in this order, are stopped after
	// the pods are gone and started, in the reverse order, before the node is given
	// back, within UnitsTimeout.
	Kubelet      string   `toml:"kubelet"`
	Units        []string `toml:"units"`
	UnitsTimeout Duration `toml:"units_timeout"`
	// DBusSocket is the absolute path of the system bus. Default:
	// /run/dbus/system_bus_socket.
	DBusSocket string `toml:"dbus_socket"`
	// Parallel bounds how many requests run at once.
	Parallel int `toml:"parallel"`
	// Mirror says which side learns from the other that a node takes no new work:
	// MirrorOff, MirrorToKubernetes, MirrorToSlurm or MirrorBoth. Default: "off".
	Mirror string `toml:"mirror"`
	// MirrorMaxNodes bounds how many nodes one run closes on a side: a number, or a share
	// of the nodes that both sides have ("20%"). Of nodes that mirror themselves it bounds how
	// many of Slurm's are closed. See MirrorLimit.
	MirrorMaxNodes string `toml:"mirror_max_nodes"`
	// MirrorAfter is how long a condition of a Node must have lasted before it drains the
	// Slurm node, and how long it must be over before that is undone.
	MirrorAfter Duration `toml:"mirror_after"`
	// MirrorConditions are types of Node conditions that drain the Slurm node while they
	// are True, beside those of the kubelet. Default: none.
	MirrorConditions []string `toml:"mirror_conditions"`
}

// Mirrors reports whether either side learns from the other that a node is closed.
func (n *NodeSettings) Mirrors() bool { return n.Mirror != MirrorOff }

// MirrorLimit is MirrorMaxNodes for so many nodes; at least 1.
func (n *NodeSettings) MirrorLimit(nodes int) int {
	most, share, _ := limit(n.MirrorMaxNodes) // Load has checked it
	if share {
		most = nodes * most / 100
	}
	return max(most, 1)
}

// limit reads "50" and "20%".
func limit(text string) (most int, share bool, err error) {
	number, share := strings.CutSuffix(text, "%")
	most, err = strconv.Atoi(number)
	if err == nil && (most < 1 || share && most > 100) {
		err = strconv.ErrRange
	}
	return most, share, err
}

// Reclaims reports whether any job may reclaim its nodes from Kubernetes.
func (n *NodeSettings) Reclaims() bool {
	return n.Reclaim != ReclaimNone || len(n.ReclaimPartitions)+len(n.ReclaimFeatures) > 0
}

// The values of Nodes.Reclaim.
const (
	ReclaimNone    = "none"    // only the jobs of ReclaimPartitions and ReclaimFeatures
	ReclaimRequest = "request" // and those that ask: --k8s-nodes=reclaim
	ReclaimAll     = "all"     // all but those that ask for something else
)

// The values of Nodes.NodeName; all but the first are followed by a value.
const (
	NodeNameSame   = "same"
	NodeNameSuffix = "suffix:"
	NodeNameLabel  = "label:"
	NodeNameMap    = "map:"
)

// The values of Nodes.Block.
const (
	BlockCordon = "cordon"
	BlockTaint  = "taint"
	BlockBoth   = "both"
)

// The values of Nodes.EvictPolicy.
const (
	EvictDelete = "delete" // budgets are passed over
	EvictFail   = "fail"   // the job fails
	EvictIgnore = "ignore" // the job starts beside them
)

// The values of the policies for kinds of pods.
const (
	PodEvict = "evict"
	PodKeep  = "keep" // it stays beside the job
	PodFail  = "fail" // the node cannot be reclaimed
)

// The values of Nodes.OnError.
const (
	OnErrorRequeue = "requeue"
	OnErrorProceed = "proceed"
	OnErrorFail    = "fail"
)

// The values of Nodes.Mirror.
const (
	MirrorOff          = "off"
	MirrorToKubernetes = "to-kubernetes" // a node that Slurm drains is closed in Kubernetes
	MirrorToSlurm      = "to-slurm"      // a node that is cordoned or ill is drained in Slurm
	MirrorBoth         = "both"
)

// The values of Nodes.Kubelet.
const (
	KubeletKeep = "keep"
	KubeletStop = "stop"
)

func defaultNodes() NodeSettings {
	return NodeSettings{
		Reclaim:         ReclaimNone,
		Kubeconfig:      firstThere(kubeletKubeconfigs),
		NodeName:        NodeNameSame,
		Block:           BlockCordon,
		Taint:           "slurmk8s.io/reclaimed",
		LendTaint:       "slurmk8s.io/lent",
		EvictGrace:      Duration(30 * time.Second),
		MinEvictGrace:   Duration(30 * time.Second),
		MaxEvictGrace:   Duration(5 * time.Minute),
		EvictTimeout:    Duration(2 * time.Minute),
		MaxEvictTimeout: Duration(10 * time.Minute),
		EvictPolicy:     EvictFail,
		JobPolicies:     []string{EvictFail, EvictIgnore},
		DaemonSets:      PodKeep,
		Tolerating:      PodKeep,
		Unmanaged:       PodFail,
		EmptyDir:        PodEvict,
		Settle:          Duration(500 * time.Millisecond),
		APITimeout:      Duration(20 * time.Second),
		OnError:         OnErrorRequeue,
		Kubelet:         KubeletKeep,
		Units:           []string{"kubelet.service", "containerd.service"},
		UnitsTimeout:    Duration(time.Minute),
		DBusSocket:      "/run/dbus/system_bus_socket",
		Parallel:        64,
		Mirror:          MirrorOff,
		MirrorMaxNodes:  "20%",
		MirrorAfter:     Duration(time.Minute),
	}
}

func (d *document) validateNodes(n *NodeSettings) error {
	for _, c := range []struct {
		key, value string
		choices    []string
	}{
		{"reclaim", n.Reclaim, []string{ReclaimNone, ReclaimRequest, ReclaimAll}},
		{"block", n.Block, []string{BlockCordon, BlockTaint, BlockBoth}},
		{"evict_policy", n.EvictPolicy, []string{EvictDelete, EvictFail, EvictIgnore}},
		{"daemonsets", n.DaemonSets, []string{PodKeep, PodEvict}},
		{"tolerating", n.Tolerating, []string{PodKeep, PodEvict, PodFail}},
		{"unmanaged", n.Unmanaged, []string{PodKeep, PodEvict, PodFail}},
		{"emptydir", n.EmptyDir, []string{PodKeep, PodEvict, PodFail}},
		{"on_error", n.OnError, []string{OnErrorRequeue, OnErrorProceed, OnErrorFail}},
		{"kubelet", n.Kubelet, []string{KubeletKeep, KubeletStop}},
		{"mirror", n.Mirror, []string{MirrorOff, MirrorToKubernetes, MirrorToSlurm, MirrorBoth}},
	} {
		if err := d.checkChoice("nodes."+c.key, c.value, c.choices...); err != nil {
			return err
		}
	}
	for _, policy := range n.JobPolicies {
		if err := d.checkChoice("nodes.job_policies", policy, EvictDelete, EvictFail, EvictIgnore); err != nil {
			return err
		}
	}
	if err := d.checkNodeName(n.NodeName); err != nil {
		return err
	}
	for key, taint := range map[string]string{"taint": n.Taint, "lend_taint": n.LendTaint} {
		if !isTaint(taint) {
			return d.invalid("nodes."+key, "%s is not KEY or KEY=VALUE of a taint, such as \"example.org/slurm\"", quoted(taint))
		}
	}
	if n.Taint == n.LendTaint {
		return d.invalid("nodes.lend_taint", "is the same as taint: pods could not tell a lent node from a reclaimed one")
	}
	if n.MinEvictGrace > n.EvictGrace || n.EvictGrace > n.MaxEvictGrace {
		return d.invalid("nodes.evict_grace", "%s is not between min_evict_grace = %s and max_evict_grace = %s",
			n.EvictGrace, n.MinEvictGrace, n.MaxEvictGrace)
	}
	if n.EvictTimeout > n.MaxEvictTimeout {
		return d.invalid("nodes.evict_timeout", "%s is longer than max_evict_timeout = %s", n.EvictTimeout, n.MaxEvictTimeout)
	}
	for _, unit := range n.Units {
		if !isUnitName(unit) {
			return d.invalid("nodes.units", "%s is not the name of a systemd service such as \"kubelet.service\"", quoted(unit))
		}
	}
	if n.Kubelet == KubeletStop && !slices.ContainsFunc(n.Units, func(u string) bool { return strings.Contains(u, "kubelet") }) {
		return d.invalid("nodes.units", "does not include the kubelet, which kubelet = %q should stop", KubeletStop)
	}
	if n.Parallel < 1 || n.Parallel > 1000 {
		return d.invalid("nodes.parallel", "%d is out of range, 1 to 1000", n.Parallel)
	}
	return d.validateMirror(n)
}

func (d *document) validateMirror(n *NodeSettings) error {
	if _, _, err := limit(n.MirrorMaxNodes); err != nil {
		return d.invalid("nodes.mirror_max_nodes", "%s is not a number of nodes such as \"50\", or a share such as \"20%%\"", quoted(n.MirrorMaxNodes))
	}
	for _, condition := range n.MirrorConditions {
		// Kubernetes names the type of a condition as it does a label.
		if !isLabelKey(condition) {
			return d.invalid("nodes.mirror_conditions", "%s cannot be the type of a condition, such as \"KernelDeadlock\"", quoted(condition))
		}
	}
	return nil
}

func (d *document) checkNodeName(name string) error {
	const key = "nodes.node_name"
	if suffix, ok := strings.CutPrefix(name, NodeNameSuffix); ok {
		if !isNodeSuffix(suffix) {
			return d.invalid(key, "%s cannot be the end of a node's name, such as \".example.org\"", quoted(suffix))
		}
		return nil
	}
	if label, ok := strings.CutPrefix(name, NodeNameLabel); ok {
		if !isLabelKey(label) {
			return d.invalid(key, "%s cannot be the key of a label, such as \"example.org/slurm-node\"", quoted(label))
		}
		return nil
	}
	if path, ok := strings.CutPrefix(name, NodeNameMap); ok {
		if !filepath.IsAbs(path) {
			return d.invalid(key, "%s is not an absolute path such as \"/etc/slurm/nodes.map\"", quoted(path))
		}
		return nil
	}
	if name != NodeNameSame {
		return d.invalid(key, "%s must be one of %s, %s.DOMAIN, %sKEY, %sFILE", quoted(name), NodeNameSame, NodeNameSuffix, NodeNameLabel, NodeNameMap)
	}
	return nil
}
