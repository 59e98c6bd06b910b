package duty

import "k8s.io/apimachinery/pkg/runtime/schema"

// Rights are a Role or ClusterRole of the shipped manifests that a duty needs: setup
// makes it, doctor compares it with what a credential may do.
type Rights struct {
	Role      string
	Namespace string // "": the whole cluster
	// OnNodes is for the credential of compute nodes, otherwise the controller's.
	OnNodes bool
	// Kubeconfig is the path of another credential of the controller that has them; "": the
	// usual one.
	Kubeconfig string
	When       Condition
	// Only are the resources of the role that are needed; nil: all. It is for a role that has
	// more than a site may want to give.
	Only map[schema.GroupResource]bool
	// Optional are rights that the duty works without: "events", "delete pods".
	Optional []string
}

// Condition is what Slurm's configuration must have, for rights to be needed.
type Condition int

// The conditions.
const (
	Always          Condition = iota
	BurstBuffer               // BurstBufferType in slurm.conf, or a burst_buffer.lua
	ControllerTakes           // PrologSlurmctld takes nodes from Kubernetes
	NodesRead                 // workflows=on in plugstack.conf
)

// Everything is the Optional of a role that may be left out as a whole.
const Everything = "*"
