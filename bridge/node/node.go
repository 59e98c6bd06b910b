// Package node hands a Kubernetes node to a Slurm job and gives it back: it closes
// the node to new pods, evicts those that run on it, and afterwards restores what
// it changed and nothing else.
//
// A change of the Node object and the record of it are one request: annotations name the
// jobs that hold the node and what was changed for the first of them. A hook may therefore
// be killed at any instant.
package node

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// What of ours is on a Node object while a job holds it, or Slurm drains it.
const (
	AnnotationHolders = "slurmk8s.io/holders" // "alps/12/0=reclaim,alps/13/0=lend,alps=drain"
	AnnotationChanged = "slurmk8s.io/changed" // what we changed for them: "cordon,taint"
	AnnotationDrained = "slurmk8s.io/drained" // why Slurm lets nothing start there: "alps: drained: bad DIMM"
	LabelHeldBy       = "slurmk8s.io/held-by" // the Slurm cluster; for the list of such nodes
	LabelLent         = "slurmk8s.io/lent"    // "true": pods may run beside a job that lends it
)

// Nodes and Pods are the resources.
var (
	Nodes = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	Pods  = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
)

// Mode is what a job wants of its nodes: the values of --k8s-nodes.
type Mode string

// The modes.
const (
	Reclaim Mode = "reclaim" // pods leave before the job starts
	Keep    Mode = "keep"    // Kubernetes goes on using the node
	Lend    Mode = "lend"    // as keep, and the node is marked for pods that wait for one
)

// Claim is a run of a job that holds a node.
type Claim struct {
	Cluster  string
	JobID    uint32
	Restarts uint32
	Mode     Mode // Reclaim or Lend
}

func (h Claim) String() string {
	return fmt.Sprintf("%s/%d/%d=%s", h.Cluster, h.JobID, h.Restarts, h.Mode)
}

// parseClaim reads what String wrote; ok is false for anything else.
func parseClaim(text string) (h Claim, ok bool) {
	run, mode, _ := strings.Cut(text, "=")
	parts := strings.Split(run, "/")
	if len(parts) != 3 || parts[0] == "" || Mode(mode) != Reclaim && Mode(mode) != Lend {
		return Claim{}, false
	}
	id, err := strconv.ParseUint(parts[1], 10, 32)
	restarts, err2 := strconv.ParseUint(parts[2], 10, 32)
	if err != nil || err2 != nil || id == 0 {
		return Claim{}, false
	}
	return Claim{Cluster: parts[0], JobID: uint32(id), Restarts: uint32(restarts), Mode: Mode(mode)}, true
}

// Driver takes and gives back nodes with one credential.
type Driver struct {
	Kube    *kube.Client
	Cfg     *slurmconf.NodeSettings
	Cluster string // of Slurm
	Log     *logrus.Entry
	// slots bound the requests at once, see New.
	slots chan struct{}
}

// New makes a bridge. It sends nothing.
func New(client *kube.Client, cfg *slurmconf.NodeSettings, cluster string, log *logrus.Entry) *Driver {
	return &Driver{Kube: client, Cfg: cfg, Cluster: cluster, Log: log, slots: make(chan struct{}, max(cfg.Parallel, 1))}
}
