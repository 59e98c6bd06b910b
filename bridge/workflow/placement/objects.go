// Package placement chooses the storage that a Workflow's directives get. DWS says in a
// DirectiveBreakdown what a directive asks for, and the workload manager answers in its
// Servers which rabbit makes how much of it. (A rabbit is a storage node of HPE's NNF; DWS
// calls it a Storage.) The package makes no request and reads no file.
package placement

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// What is read of the objects of dataworkflowservices.github.io. It is the same in v1alpha6
// and v1alpha7 (api/v1alpha7/*_types.go of DWS).

// Breakdown is a DirectiveBreakdown: what one directive asks for. The driver makes it in
// Proposal.
type Breakdown struct {
	Directive string
	Ready     bool
	Error     string // for the user; "": none
	// Servers are to be filled with an allocation set for each of Sets. A directive that
	// uses what is there already has no Sets.
	Servers    types.NamespacedName
	Persistent bool // outlives the job
	Sets       []Set
	Locations  []Location
}

// Set is an allocation set that a directive asks for.
type Set struct {
	Label    string // raw, xfs, gfs2, mgt, mdt, mgtmdt, ost
	Strategy string
	Minimum  int64    // bytes: of each allocation on nodes and rabbits, else of all together
	Labels   []string // that the Storage must have: "key=value"
	Scale    int      // 1 to 10, few parts to many; 0: not given
	Count    int      // of parts; 0: not given
	// Keys are exclusive: no other set with one of them may be on the same rabbit.
	Keys []string
}

// The strategies of an allocation set.
const (
	perCompute = "AllocatePerCompute"    // one allocation for each of the job's nodes
	perServer  = "AllocatePerServer"     // one on each rabbit of the job's nodes
	across     = "AllocateAcrossServers" // in parts
	single     = "AllocateSingleServer"
)

// Location says how the job's nodes must reach an allocation set.
type Location struct {
	Servers types.NamespacedName
	Set     int // of these servers
	// They must, or should, be nodes of its rabbits.
	Physical, PhysicalIfPossible bool
}

// Servers say where a directive's storage is made: the workload manager by what it
// asks for, the driver by what there is.
type Servers struct {
	ID              types.NamespacedName
	ResourceVersion string
	Annotations     map[string]string
	Filled          []AllocationSet
	// Ready: all was allocated once. It stays so in Teardown.
	Ready bool
	Made  []Made
}

// Rabbits are those that the servers are filled with.
func (s *Servers) Rabbits() map[string]bool {
	on := map[string]bool{}
	for _, set := range s.Filled {
		for _, storage := range set.Storage {
			on[storage.Name] = true
		}
	}
	return on
}

// AllocationSet is an allocation set as it is placed, in the form that DWS takes.
type AllocationSet struct {
	Label          string    `json:"label"`
	AllocationSize int64     `json:"allocationSize"` // bytes of one allocation
	Storage        []Storage `json:"storage"`
}

// Storage is how many allocations of a set a rabbit gets.
type Storage struct {
	Name            string `json:"name"`
	AllocationCount int    `json:"allocationCount"`
}

// Made is what a rabbit has made of an allocation set.
type Made struct {
	Label, Rabbit string
	Bytes         int64
}

// System is SystemConfiguration default/default, which the administrator writes.
type System struct {
	Rabbits  map[string][]string // by name: the nodes that they serve
	External []string            // nodes that no rabbit serves
}

// Rabbit is a Storage of the namespace default.
type Rabbit struct {
	Name           string
	Labels         map[string]string
	Enabled        bool   // by the administrator
	Status         string // "Ready", "Offline", "Drained", ...
	Message        string // which may be an old one
	RebootRequired bool
	Drives         []int64           // bytes of those that are Ready
	Links          map[string]string // nodes by name: the status of their PCIe link
}

// ReadBreakdown reads a DirectiveBreakdown.
func ReadBreakdown(u *unstructured.Unstructured) Breakdown {
	status := tree(u.Object).tree("status")
	storage, failure := status.tree("storage"), status.tree("error")
	b := Breakdown{
		Directive: tree(u.Object).tree("spec").text("directive"), Ready: status.flag("ready"),
		Servers: storage.tree("reference").id(), Persistent: storage.text("lifetime") == "persistent",
	}
	if failure != nil {
		b.Error = strings.TrimSpace(failure.text("userMessage") + " " + bracketed(failure.text("debugMessage")))
	}
	for _, set := range storage.list("allocationSets") {
		constraints := set.tree("constraints")
		s := Set{
			Label: set.text("label"), Strategy: set.text("allocationStrategy"), Minimum: set.number("minimumCapacity"),
			Labels: constraints.texts("labels"), Scale: int(constraints.number("scale")), Count: int(constraints.number("count")),
			Keys: keysOf(set.text("label")),
		}
		for _, c := range constraints.list("colocation") {
			if key := c.text("key"); c.text("type") == "exclusive" && !slices.Contains(s.Keys, key) {
				s.Keys = append(s.Keys, key)
			}
		}
		b.Sets = append(b.Sets, s)
	}
	for _, location := range status.tree("compute").tree("constraints").list("location") {
		l := Location{Servers: location.tree("reference").id(), Set: -1}
		_, _ = fmt.Sscanf(location.tree("reference").text("fieldPath"), "servers.spec.allocationSets[%d]", &l.Set)
		for _, access := range location.list("access") {
			if access.text("type") == "physical" {
				l.Physical = l.Physical || access.text("priority") == "mandatory"
				l.PhysicalIfPossible = l.PhysicalIfPossible || access.text("priority") == "bestEffort"
			}
		}
		b.Locations = append(b.Locations, l)
	}
	return b
}

func bracketed(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

// keyMGS keeps the management servers of Lustre apart: a node runs one.
const keyMGS = "lustre-mgt"

// keysOf is what a set has by its label. A profile may put another key in the place of
// lustre-mgt (seen: the empty one, which a dedicated MDT has).
func keysOf(label string) []string {
	if label == "mgt" || label == "mgtmdt" {
		return []string{keyMGS}
	}
	return nil
}

// ReadServers reads a Servers.
func ReadServers(u *unstructured.Unstructured) Servers {
	status := tree(u.Object).tree("status")
	s := Servers{ID: tree(u.Object).tree("metadata").id(), ResourceVersion: u.GetResourceVersion(), Annotations: u.GetAnnotations(), Ready: status.flag("ready")}
	for _, set := range tree(u.Object).tree("spec").list("allocationSets") {
		a := AllocationSet{Label: set.text("label"), AllocationSize: set.number("allocationSize")}
		for _, storage := range set.list("storage") {
			a.Storage = append(a.Storage, Storage{storage.text("name"), int(storage.number("allocationCount"))})
		}
		s.Filled = append(s.Filled, a)
	}
	for _, set := range status.list("allocationSets") {
		storage := set.tree("storage")
		for rabbit := range storage {
			s.Made = append(s.Made, Made{set.text("label"), rabbit, storage.tree(rabbit).number("allocationSize")})
		}
	}
	return s
}

// ReadSystem reads a SystemConfiguration.
func ReadSystem(u *unstructured.Unstructured) System {
	spec := tree(u.Object).tree("spec")
	s := System{Rabbits: map[string][]string{}}
	for _, node := range spec.list("storageNodes") {
		computes := node.list("computesAccess")
		names := make([]string, len(computes))
		for i, c := range computes {
			names[i] = c.text("name")
		}
		s.Rabbits[node.text("name")] = names
	}
	for _, node := range spec.list("externalComputeNodes") {
		s.External = append(s.External, node.text("name"))
	}
	return s
}

// ReadRabbit reads a Storage.
func ReadRabbit(u *unstructured.Unstructured) Rabbit {
	status := tree(u.Object).tree("status")
	r := Rabbit{
		Name: u.GetName(), Labels: u.GetLabels(), Enabled: tree(u.Object).tree("spec").text("state") == "Enabled",
		Status: status.text("status"), Message: status.text("message"), RebootRequired: status.flag("rebootRequired"),
		Links: map[string]string{},
	}
	for _, device := range status.list("devices") {
		if device.text("status") == ready {
			r.Drives = append(r.Drives, device.number("capacity"))
		}
	}
	for _, compute := range status.tree("access").list("computes") {
		r.Links[compute.text("name")] = compute.text("status")
	}
	return r
}

// ReadAll reads the objects of a list.
func ReadAll[T any](list []unstructured.Unstructured, read func(*unstructured.Unstructured) T) []T {
	all := make([]T, len(list))
	for i := range list {
		all[i] = read(&list[i])
	}
	return all
}

// tree is a part of an object. What is absent, or of another type, is read as nothing: the
// definitions of DWS check types. (apimachinery's converter takes ten times as long.)
type tree map[string]any

func (t tree) tree(name string) tree {
	part, _ := t[name].(map[string]any)
	return part
}

func (t tree) list(name string) []tree {
	items, _ := t[name].([]any)
	all := make([]tree, len(items))
	for i := range items {
		all[i], _ = items[i].(map[string]any)
	}
	return all
}

func (t tree) texts(name string) []string {
	items, _ := t[name].([]any)
	var all []string
	for _, item := range items {
		if text, ok := item.(string); ok {
			all = append(all, text)
		}
	}
	return all
}

func (t tree) text(name string) string {
	text, _ := t[name].(string)
	return text
}

func (t tree) number(name string) int64 {
	n, _ := t[name].(int64)
	return n
}

func (t tree) flag(name string) bool {
	flag, _ := t[name].(bool)
	return flag
}

func (t tree) id() types.NamespacedName {
	return types.NamespacedName{Namespace: t.text("namespace"), Name: t.text("name")}
}
