package dwssim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Profile is an NnfStorageProfile: what NNF makes of a directive. Sizes are as in a directive.
type Profile struct {
	// Padding is added to each allocation of raw, xfs and gfs2: a size, or a share such as 1%.
	Padding string
	// Factor multiplies the capacity of raw, xfs and gfs2, OSTFactor that of Lustre. Zero is 1.
	Factor, OSTFactor float64
	// SeparatePools makes NNF spread each allocation over the drives by itself; otherwise those of
	// raw, xfs and gfs2 that are on one rabbit are spread together (sharedVg).
	SeparatePools bool
	// Labels are what a rabbit must have for raw, xfs and gfs2.
	Labels []string
	// SeparateMGT has an MGT and MDTs, where there are otherwise combined MGTMDTs.
	SeparateMGT bool
	// ExternalMGS is the address of an MGS to use, or pool:NAME for one of a pool.
	ExternalMGS string
	// StandalonePool makes create_persistent an MGT of that pool, and of nothing else.
	StandalonePool string
	// The Lustre targets. The size of an MGTMDT is that of MDT, as with the real one.
	OST, MDT, MGT, MGTMDT Target
}

// Target is how Lustre targets of one label are made. Capacity is that of all together.
type Target struct {
	Capacity     string
	Count, Scale int
	// Exclusive keeps an MDT away from all others; Colocate prefers the rabbits of the job's nodes.
	Exclusive, Colocate bool
	Labels              []string
}

// DefaultProfile is the one that NNF is shipped with.
func DefaultProfile() Profile {
	return Profile{
		Padding: "300MiB",
		OST:     Target{Scale: 5, Colocate: true},
		MDT:     Target{Capacity: "5GiB"},
		MGT:     Target{Capacity: "5GiB"},
		MGTMDT:  Target{Capacity: "5GiB"},
	}
}

// DefaultProfiles are profiles for most of what a profile can say, under the names that they have
// in the recordings of the real NNF.
func DefaultProfiles() map[string]Profile {
	changed := func(changes ...func(*Profile)) Profile {
		profile := DefaultProfile()
		for _, change := range changes {
			change(&profile)
		}
		return profile
	}
	separate := func(p *Profile) { p.SeparateMGT = true }
	external := func(p *Profile) { p.ExternalMGS = "10.1.1.1@tcp" }
	return map[string]Profile{
		"default":  DefaultProfile(),
		"separate": changed(separate),
		"external": changed(external),
		"extpool":  changed(func(p *Profile) { p.ExternalMGS = "pool:mypool" }),
		"ostcount": changed(func(p *Profile) { p.OST.Count = 3 }),
		"extcount": changed(external, func(p *Profile) { p.OST.Count, p.MDT.Count, p.MDT.Capacity = 2, 4, "10GB" }),
		"scale1":   changed(func(p *Profile) { p.OST.Scale = 1 }),
		"scale10":  changed(func(p *Profile) { p.OST.Scale = 10 }),
		"exclusive": changed(separate, func(p *Profile) {
			p.MDT.Exclusive = true
		}),
		"exclusivecombined": changed(func(p *Profile) { p.MDT.Exclusive = true }),
		"capmgtmdt":         changed(func(p *Profile) { p.MGTMDT.Capacity, p.MDT.Capacity = "7GiB", "6GiB" }),
		"mgtcolocate":       changed(func(p *Profile) { p.OST.Colocate, p.MGTMDT.Colocate = false, true }),
		"lustrefactor":      changed(func(p *Profile) { p.OSTFactor = 1.3 }),
		"labels": changed(func(p *Profile) {
			p.Labels, p.OST.Labels = []string{"site/pool=fast"}, []string{"site/pool=fast"}
			p.MGTMDT.Labels = []string{"site/pool=fast", "site/meta"}
		}),
		"standalone": changed(func(p *Profile) { p.StandalonePool = "mypool" }),
		"padded":     changed(func(p *Profile) { p.Factor, p.Padding = 1.2, "1%" }),
		"nopad":      changed(func(p *Profile) { p.Padding = "" }),
		"novg":       changed(func(p *Profile) { p.SeparatePools = true }),
	}
}

// refusal is an error of NNF, in the three forms that it has there: kind is User, WLM or Internal.
type refusal struct {
	kind, severity string
	user, debug    string
}

func fatal(kind, user, debug string) *refusal { return &refusal{kind, "Fatal", user, debug} }

func userError(format string, args ...any) *refusal {
	text := fmt.Sprintf(format, args...)
	return fatal("User", text, text)
}

// message and text are what a driver says.
func (r *refusal) message() string { return r.kind + " error: " + r.user }
func (r *refusal) text() string    { return strings.ToLower(r.kind) + " error: " + r.debug }

func (r *refusal) resource() *ResourceError {
	return &ResourceError{Type: r.kind, Severity: r.severity, UserMessage: r.user, DebugMessage: r.debug}
}

// isLocal says whether storage of a type is used by the nodes of its rabbit only, and made for
// each of them.
func isLocal(fsType string) bool { return fsType != "lustre" }

// allocationSets are what a jobdw or create_persistent needs.
func (p Profile) allocationSets(d *directive) ([]AllocationSet, *refusal) {
	persistent := d.command == "create_persistent"
	standalone := p.StandalonePool != "" && d.args["type"] == "lustre"
	_, given := d.args["capacity"]
	switch {
	case standalone && !persistent:
		return nil, userError("standaloneMgtPoolName option can only be used with 'create_persistent' directive")
	case standalone && given:
		return nil, userError("creating persistent MGT does not accept 'capacity' argument")
	case standalone:
		return []AllocationSet{p.mgt()}, nil
	case persistent && !given:
		return nil, userError("creating persistent storage requires 'capacity' argument")
	}
	capacity := parseSize(d.args["capacity"])
	if capacity == 0 {
		return nil, fatal("Internal", "'capacity' must be a non-zero value", "'capacity' must be a non-zero value")
	}
	if d.args["type"] != "lustre" {
		return []AllocationSet{{
			AllocationStrategy: AllocatePerCompute,
			Constraints:        SetConstraints{Labels: withStorageLabel(p.Labels)},
			Label:              d.args["type"],
			MinimumCapacity:    p.padded(scaled(capacity, p.Factor)),
		}}, nil
	}
	ost := p.OST.across("ost", scaled(capacity, p.OSTFactor))
	mdt := p.MDT.across("mdt", parseSize(p.MDT.Capacity))
	if ost.Constraints.Count > 0 {
		ost.Constraints.Scale = 0
	}
	mdt.Constraints.Count = max(p.MDT.Count, 1)
	if p.MDT.Exclusive {
		mdt.Constraints.Colocation = []Colocation{{Type: "exclusive"}}
	}
	switch {
	case p.ExternalMGS != "":
		return []AllocationSet{ost, mdt}, nil
	case p.SeparateMGT:
		return []AllocationSet{ost, mdt, p.mgt()}, nil
	}
	mgtmdt := p.MGTMDT.across("mgtmdt", parseSize(p.MDT.Capacity))
	mgtmdt.Constraints.Count = max(p.MDT.Count, 1)
	mgtmdt.Constraints.Colocation = mdt.Constraints.Colocation
	if !p.MDT.Exclusive {
		mgtmdt.Constraints.Colocation = mgtColocation()
	}
	return []AllocationSet{ost, mgtmdt}, nil
}

func (t Target) across(label string, minimum int64) AllocationSet {
	return AllocationSet{
		AllocationStrategy: AllocateAcrossServers,
		Constraints:        SetConstraints{Count: t.Count, Scale: t.Scale, Labels: withStorageLabel(t.Labels)},
		Label:              label,
		MinimumCapacity:    minimum,
	}
}

func (p Profile) mgt() AllocationSet {
	return AllocationSet{
		AllocationStrategy: AllocateSingleServer,
		Constraints:        SetConstraints{Colocation: mgtColocation(), Count: 1, Labels: withStorageLabel(p.MGT.Labels)},
		Label:              "mgt",
		MinimumCapacity:    parseSize(p.MGT.Capacity),
	}
}

func mgtColocation() []Colocation { return []Colocation{{Key: "lustre-mgt", Type: "exclusive"}} }

// withStorageLabel adds the label that each rabbit has, last.
func withStorageLabel(labels []string) []string {
	return append(slices.Clone(labels), storageLabel+"=Rabbit")
}

func (p Profile) padded(bytes int64) int64 {
	if percent, found := strings.CutSuffix(p.Padding, "%"); found {
		share, _ := strconv.ParseInt(percent, 10, 64) // the profiles are this package's or a test's
		return bytes + bytes*share/100
	}
	return bytes + parseSize(p.Padding)
}

func scaled(bytes int64, factor float64) int64 {
	if factor == 0 {
		return bytes
	}
	return int64(float64(bytes) * factor)
}

// colocate says whether a Lustre set prefers the rabbits of the job's nodes.
func (p Profile) colocate(label string) bool {
	return map[string]Target{"ost": p.OST, "mdt": p.MDT, "mgt": p.MGT, "mgtmdt": p.MGTMDT}[label].Colocate
}

// access is how the job's nodes must reach an allocation set of a jobdw.
func (p Profile) access(label string) []LocationAccess {
	physical, network := LocationAccess{"mandatory", "physical"}, LocationAccess{"mandatory", "network"}
	switch {
	case label == "raw" || label == "xfs":
		return []LocationAccess{physical}
	case label == "gfs2":
		return []LocationAccess{network, physical}
	case p.colocate(label):
		return []LocationAccess{network, {"bestEffort", "physical"}}
	}
	return []LocationAccess{network}
}

// breakdown is the status of a directive's DirectiveBreakdown, once it is ready. servers are where
// the allocations are written down.
func (p Profile) breakdown(d *directive, servers ObjectReference) (DirectiveBreakdownStatus, *refusal) {
	sets, refused := p.allocationSets(d)
	if refused != nil {
		return DirectiveBreakdownStatus{Error: refused.resource()}, refused
	}
	status := DirectiveBreakdownStatus{
		Ready:    true,
		Requires: d.requires(),
		Storage:  &StorageBreakdown{AllocationSets: sets, Lifetime: "job", Reference: servers},
	}
	if d.command == "create_persistent" {
		status.Storage.Lifetime = "persistent"
		return status, nil
	}
	status.Compute = &ComputeBreakdown{}
	for i, set := range sets {
		status.Compute.locate(servers, i, p.access(set.Label))
	}
	return status, nil
}

// usedBreakdown is that of a persistentdw. Whatever the type, NNF wants the nodes of the rabbits.
func usedBreakdown(d *directive, servers *Servers, active bool) DirectiveBreakdownStatus {
	status := DirectiveBreakdownStatus{Ready: true, Requires: d.requires(), Compute: &ComputeBreakdown{}}
	if !active {
		return status
	}
	reference := ObjectReference{Kind: kindServers.name, Namespace: servers.Namespace, Name: servers.Name}
	for i := range servers.Spec.AllocationSets {
		status.Compute.locate(reference, i, []LocationAccess{{"mandatory", "physical"}})
	}
	return status
}

func (c *ComputeBreakdown) locate(servers ObjectReference, set int, access []LocationAccess) {
	c.Constraints.Location = append(c.Constraints.Location, ComputeLocation{Access: access, Reference: FieldReference{
		FieldPath: fmt.Sprintf("servers.spec.allocationSets[%d]", set),
		Kind:      servers.Kind, Namespace: servers.Namespace, Name: servers.Name,
	}})
}

// requires are the words of the directive's requires=.
func (d *directive) requires() []string {
	if d.args["requires"] == "" {
		return nil
	}
	return strings.Split(d.args["requires"], ",")
}

var units = map[string]int64{
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// parseSize returns the bytes of a capacity; 0 for what is not one, which admission let through
// only if it is absent.
func parseSize(text string) int64 {
	digits := strings.TrimRight(text, "KMGTiB")
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0
	}
	return number * units[text[len(digits):]]
}
