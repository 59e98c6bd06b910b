package dwssim

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// propose makes the breakdowns of a Workflow's directives, or refuses it. w is changed.
func (n *nnf) propose(w *Workflow, s *surroundings, directives []*directive, now time.Time, out *step) {
	if refused := n.judge(w, s, directives); refused != nil {
		// Whichever directive is wrong, it is the first driver that says so.
		for k := range w.Status.Drivers {
			if driver := &w.Status.Drivers[k]; driver.WatchState == Proposal && driver.DriverID == "nnf" {
				refusedBy(refused).tell(driver, now)
				return
			}
		}
	}
	w.Status.Requires = requiredOf(directives)
	var references []ObjectReference
	complete := true
	states := map[int]progress{}
	for i, d := range directives {
		states[i] = n.proposeOne(w, s, i, d, now, out)
		complete = complete && states[i].done
		switch d.command {
		case "jobdw", "create_persistent", "persistentdw":
			references = append(references, ObjectReference{Kind: kindBreakdown.name, Namespace: w.Namespace, Name: nameOf(w, i)})
		}
	}
	w.Status.DirectiveBreakdowns = references
	n.each(w, directives, now, func(i int, _ *directive) progress {
		p := states[i]
		// What has nothing to wait for is completed with the others.
		p.done = p.done && (complete || p.message != "")
		return p
	})
}

// proposeOne makes a directive's breakdown, and the Servers or the persistent instance that it
// refers to.
func (n *nnf) proposeOne(w *Workflow, s *surroundings, i int, d *directive, now time.Time, out *step) progress {
	switch d.command {
	case "jobdw", "create_persistent", "persistentdw":
	case "copy_in", "copy_out":
		if name := d.args["profile"]; name != "" && !slices.Contains(n.options.CopyProfiles, name) {
			return refusedBy(userError("Unable to find NnfDataMovementProfile: %s", name))
		}
		return progress{done: true}
	default:
		return progress{done: true}
	}
	made := s.breakdowns[i]
	if made == nil {
		made = &DirectiveBreakdown{
			ObjectMeta: objectMeta(w, i, "Workflow", w, n.version, nameOf(w, i), breakdownFinalizer),
			Spec:       DirectiveBreakdownSpec{Directive: d.text, UserID: w.Spec.UserID},
		}
		out.add(create, kindBreakdown, made)
		return waiting("status pending")
	}
	if due := entered(w).Add(d.delay(Proposal)); now.Before(due) {
		out.wakeAt(due)
		return waiting("status pending")
	}
	status, ready, refused := n.breakdownOf(w, s, i, d, out)
	if !ready && refused == nil {
		return waiting("status pending")
	}
	if !reflect.DeepEqual(made.Status, status) {
		changed := *made
		changed.Status = status
		out.add(updateStatus, kindBreakdown, &changed)
		if refused == nil {
			return waiting("status pending")
		}
	}
	if refused != nil {
		return refusedBy(refused)
	}
	return progress{done: true, message: "ready"}
}

// breakdownOf is the status of a directive's breakdown; ready is false while what it refers to
// does not exist.
func (n *nnf) breakdownOf(w *Workflow, s *surroundings, i int, d *directive, out *step) (_ DirectiveBreakdownStatus, ready bool, _ *refusal) {
	instance := s.persistent[d.args["name"]]
	if d.command == "persistentdw" {
		if instance == nil || s.servers[i] == nil {
			return DirectiveBreakdownStatus{}, false, nil // it was destroyed meanwhile
		}
		return usedBreakdown(d, s.servers[i], instance.Status.State != "Creating"), true, nil
	}
	profile, refused := n.profile(d)
	if refused == nil && d.command == "create_persistent" && instance != nil {
		refused = otherUser(w, instance)
	}
	if refused != nil {
		return DirectiveBreakdownStatus{Error: refused.resource()}, false, refused
	}
	reference := ObjectReference{Kind: kindServers.name, Namespace: w.Namespace, Name: nameOf(w, i)}
	if d.command == "create_persistent" {
		reference.Name = d.args["name"]
	}
	status, refused := profile.breakdown(d, reference)
	if refused != nil {
		return status, false, refused
	}
	if d.command == "create_persistent" && !n.proposeInstance(w, s, i, d, profile, out) {
		return status, false, nil
	}
	if s.servers[i] == nil {
		servers := &Servers{}
		if d.command == "jobdw" {
			servers.ObjectMeta = objectMeta(w, i, kindBreakdown.name, s.breakdowns[i], n.version, reference.Name, serversFinalizer)
		} else {
			servers.Name, servers.Namespace, servers.Finalizers = reference.Name, w.Namespace, []string{serversFinalizer}
			own(&servers.ObjectMeta, kindPersistent.name, instance, n.version)
			servers.Labels[persistentLabel+"name"], servers.Labels[persistentLabel+"namespace"] = instance.Name, instance.Namespace
		}
		out.add(create, kindServers, servers)
		return status, false, nil
	}
	return status, true, nil
}

// proposeInstance makes the persistent instance of a create_persistent. One of the same user that
// exists gets the new directive and keeps its storage. It returns false if there is none yet.
func (n *nnf) proposeInstance(w *Workflow, s *surroundings, i int, d *directive, profile Profile, out *step) bool {
	instance := s.persistent[d.args["name"]]
	if instance == nil {
		instance = &PersistentStorageInstance{
			Spec: PersistentSpec{DWDirective: d.text, FsType: d.args["type"], Name: d.args["name"], State: "Active", UserID: w.Spec.UserID},
		}
		instance.Name, instance.Namespace, instance.Finalizers = d.args["name"], w.Namespace, []string{persistentFinalizer}
		own(&instance.ObjectMeta, kindBreakdown.name, s.breakdowns[i], n.version)
		if profile.StandalonePool != "" && d.args["type"] == "lustre" {
			instance.Labels[standaloneLabel] = profile.StandalonePool
		}
		out.add(create, kindPersistent, instance)
		return false
	}
	if instance.Status.State == "" {
		changed := *instance
		changed.Status = PersistentStatus{State: "Creating", Servers: ObjectReference{Kind: kindServers.name, Namespace: w.Namespace, Name: instance.Name}}
		out.add(updateStatus, kindPersistent, &changed)
		return false
	}
	if instance.Spec.DWDirective != d.text {
		changed := *instance
		changed.Spec.DWDirective = d.text
		out.add(update, kindPersistent, &changed)
	}
	return true
}

// otherUser refuses an instance of another user.
func otherUser(w *Workflow, instance *PersistentStorageInstance) *refusal {
	if instance.Spec.UserID == w.Spec.UserID {
		return nil
	}
	return fatal("User", "User ID does not match existing persistent storage",
		fmt.Sprintf("existing persistent storage user ID %d does not match user ID %d", instance.Spec.UserID, w.Spec.UserID))
}

// requiredOf are the words of all requires=, with one that NNF keeps for itself.
func requiredOf(directives []*directive) []string {
	var offload, auth bool
	for _, d := range directives {
		offload = offload || slices.Contains(d.requires(), "copy-offload")
		auth = auth || slices.Contains(d.requires(), "user-container-auth")
	}
	switch {
	case offload:
		return []string{"copy-offload", "container-auth"}
	case auth:
		return []string{"container-auth"}
	}
	return nil
}

// judge refuses a Workflow as a whole.
func (n *nnf) judge(w *Workflow, s *surroundings, directives []*directive) *refusal {
	alone := 0
	for _, d := range directives {
		if d.command == "create_persistent" || d.command == "destroy_persistent" {
			alone++
		}
	}
	if alone > 0 && len(directives) > 1 {
		return userError("only a single create_persistent or destroy_persistent directive is allowed per workflow")
	}
	for _, d := range directives {
		var refused *refusal
		switch d.command {
		case "copy_in", "copy_out":
			refused = n.judgeCopy(s, d, directives)
		case "persistentdw":
			refused = judgeUse(w, s, d)
		case "container":
			refused = n.judgeContainer(s, d, directives)
		}
		if refused != nil {
			return refused
		}
	}
	if n.options.NoTLSSecret && requiredOf(directives) != nil {
		return fatal("Internal", "", `the administrator must configure the user container TLS secret for the system. `+
			`See the copy-offload docs: Secret "nnf-dm-usercontainer-server-tls" not found`)
	}
	return nil
}

func judgeUse(w *Workflow, s *surroundings, d *directive) *refusal {
	name := d.args["name"]
	instance := s.persistent[name]
	if instance == nil {
		return fatal("User", fmt.Sprintf("PersistentStorageInstance '%s' not found", name),
			fmt.Sprintf("PersistentStorageInstance.%s %q not found", Group, name))
	}
	if instance.Annotations[ignoreUIDAnnotation] == "true" {
		return nil
	}
	return otherUser(w, instance)
}

func (n *nnf) judgeCopy(s *surroundings, d *directive, directives []*directive) *refusal {
	for _, argument := range []string{"source", "destination"} {
		value := d.args[argument]
		if why := n.judgePath(s, value, directives); why != "" {
			return fatal("User", why, fmt.Sprintf("Invalid %s argument: '%s': %s", argument, value, why))
		}
	}
	return nil
}

// judgePath says what is wrong with a path of a copy; empty if nothing is.
func (n *nnf) judgePath(s *surroundings, path string, directives []*directive) string {
	variable, _, _ := strings.Cut(path, "/")
	if name, found := strings.CutPrefix(variable, "$DW_JOB_"); found {
		job := find(directives, "jobdw", name)
		switch {
		case job == nil:
			return fmt.Sprintf("job storage instance '%s' not found", name)
		case job.args["type"] == "raw":
			return "data movement can not be used with raw allocations"
		}
		return ""
	}
	if name, found := strings.CutPrefix(variable, "$DW_PERSISTENT_"); found {
		instance := instanceOf(s, name)
		switch {
		case instance == nil:
			return fmt.Sprintf("persistent storage instance '%s' not found", name)
		case find(directives, "persistentdw", name) == nil:
			return fmt.Sprintf("persistentdw directive mentioning '%s' not found", name)
		case instance.Spec.FsType == "raw":
			return "data movement can not be used with raw allocations"
		}
		return ""
	}
	return n.judgeGlobal(path)
}

// judgeGlobal looks for the global Lustre that a path is in.
func (n *nnf) judgeGlobal(path string) string {
	for _, root := range n.options.GlobalLustre {
		if path == root || strings.HasPrefix(path, root+"/") {
			return ""
		}
	}
	return fmt.Sprintf("global Lustre file system containing '%s' not found", path)
}

// find is the directive of a command and name. In a variable, a dash may be an underscore.
func find(directives []*directive, command, name string) *directive {
	for _, d := range directives {
		if d.command == command && sameName(d.args["name"], name) {
			return d
		}
	}
	return nil
}

func instanceOf(s *surroundings, name string) *PersistentStorageInstance {
	for known, instance := range s.persistent {
		if instance != nil && sameName(known, name) {
			return instance
		}
	}
	return nil
}

func sameName(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// containerProfile is an NnfContainerProfile: its storages, true for those that it cannot do
// without, and for an MPI container how many ports it gets.
type containerProfile struct {
	storages map[string]bool
	mpi      bool
	ports    int
}

// containerProfiles are two of those that NNF is shipped with.
var containerProfiles = map[string]containerProfile{
	"example-success": {storages: exampleStorages},
	"example-mpi":     {storages: exampleStorages, mpi: true, ports: 1},
}

var exampleStorages = map[string]bool{
	"DW_JOB_foo_local_storage": true, "DW_PERSISTENT_foo_persistent_storage": false, "DW_GLOBAL_foo_global_lustre": false,
}

func (n *nnf) judgeContainer(s *surroundings, d *directive, directives []*directive) *refusal {
	name := d.args["profile"]
	profile, found := containerProfiles[name]
	if !found {
		missing := fmt.Sprintf("NnfContainerProfile.%s %q not found", nnfGroup, name)
		return fatal("Internal", "no valid container profile found", missing+": "+missing)
	}
	containers := 0
	for _, other := range directives {
		if other.command == "container" {
			containers++
		}
	}
	if containers > 1 {
		return userError("only a single container directive is supported per workflow")
	}
	for _, argument := range sortedKeys(d.args) {
		if !strings.HasPrefix(argument, "DW_") {
			continue
		}
		value := d.args[argument]
		if _, known := profile.storages[argument]; !known {
			return userError("storage '%s' not found in container profile '%s'", argument, name)
		}
		kind := ""
		switch {
		case strings.HasPrefix(argument, "DW_GLOBAL_"):
			if why := n.judgeGlobal(value); why != "" {
				return userError("%s", why)
			}
		case strings.HasPrefix(argument, "DW_JOB_"):
			job := find(directives, "jobdw", value)
			if job == nil {
				return userError("jobdw directive mentioning '%s' not found", value)
			}
			kind = job.args["type"]
		case strings.HasPrefix(argument, "DW_PERSISTENT_"):
			used := find(directives, "persistentdw", value)
			if used == nil {
				return userError("persistentdw directive mentioning '%s' not found", value)
			}
			kind = fsType(used, s)
		}
		if kind == "xfs" {
			return userError("unsupported container filesystem: %s", kind)
		}
	}
	for _, storage := range sortedKeys(profile.storages) {
		if _, given := d.args[storage]; profile.storages[storage] && !given {
			return userError("storage '%s' in container profile '%s' is not optional: storage argument not found in the supplied arguments", storage, name)
		}
	}
	return nil
}
