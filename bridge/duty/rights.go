package duty

// Rights are a Role or ClusterRole of the shipped manifests that a duty needs: setup
// makes it, doctor compares it with what a credential may do.
type Rights struct {
	Role      string
	Namespace string // "": the whole cluster
	// OnNodes is for the credential of compute nodes, otherwise the controller's.
	OnNodes bool
	When    Condition
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
