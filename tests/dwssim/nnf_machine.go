package dwssim

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// surroundings are what NNF reads to move a Workflow, besides the Workflow.
type surroundings struct {
	// By the index of a directive.
	breakdowns map[int]*DirectiveBreakdown
	servers    map[int]*Servers
	// persistent instances by name; those of directives that name one.
	persistent map[string]*PersistentStorageInstance
	mounts     []*ClientMount
	computes   []string
	system     *SystemConfiguration
	storages   map[string]*Storage
	// disabled are the nodes that SystemStatus takes away, hung those whose clientmountd does
	// nothing and the rabbits whose node controller does nothing.
	disabled, hung map[string]bool
	// blind says that no node sees the Workflow's namespace: they begin, and get no further.
	blind bool
}

// stuck says whether a node does nothing more about a ClientMount.
func (s *surroundings) stuck(node string) bool { return s.hung[node] || s.blind }

// verb is what is done with an object.
type verb int

const (
	create verb = iota
	update
	updateStatus
	// remove deletes an object that has finalizers of others left; letGo takes all away before.
	remove
	letGo
)

// change is one write of an object that is not a Workflow.
type change struct {
	verb   verb
	kind   kind
	object metav1.Object // *Servers and the like
}

// step is what NNF does next. The changes are independent of each other, and come before the write
// of the Workflow.
type step struct {
	changes []change
	write   *Workflow
	wake    time.Time
}

func (s *step) add(v verb, k kind, object metav1.Object) {
	s.changes = append(s.changes, change{v, k, object})
}

func (s *step) wakeAt(at time.Time) {
	if !at.IsZero() && (s.wake.IsZero() || at.Before(s.wake)) {
		s.wake = at
	}
}

// progress is how far NNF has come with a directive in a state.
type progress struct {
	done    bool
	message string
	refused *refusal
	// hung is what it waits for in vain, if that is so.
	hung string
}

func waiting(message string) progress   { return progress{message: message} }
func refusedBy(r *refusal) progress     { return progress{refused: r} }
func minor(user, debug string) *refusal { return &refusal{"Internal", "Minor", user, debug} }

// next is what NNF does with a Workflow as it is. It changes only the ledger and the locks.
func (n *nnf) next(w *Workflow, s *surroundings, now time.Time) step {
	out := step{}
	directives, err := checkDirectives(w.Spec.DWDirectives)
	if err != nil {
		return out // admission let no such Workflow in
	}
	provided := slices.ContainsFunc(w.Status.Drivers, func(d Driver) bool { return d.DriverID == "nnf" })
	switch {
	case !provided && !slices.Contains(w.Finalizers, workflowFinalizer):
		return out
	case w.DeletionTimestamp != nil:
		n.dispose(w, s, directives, &out)
		return out
	case !slices.Contains(w.Finalizers, workflowFinalizer):
		out.write = w.deepCopy()
		out.write.Finalizers = append(out.write.Finalizers, workflowFinalizer)
		return out
	case w.Status.State != w.Spec.DesiredState || w.Status.State == "":
		return out // DWS comes first
	}
	changed := w.deepCopy()
	if w.Status.State != Teardown {
		n.reportServers(s, now, &out)
	}
	if w.Status.Ready {
		if w.Status.State == PreRun {
			for i, d := range directives { // a node that is added to Computes later is mounted too
				n.mount(w, s, i, d, now, &out)
			}
		}
		return out
	}
	switch w.Status.State {
	case Proposal:
		n.propose(changed, s, directives, now, &out)
	case Teardown:
		n.tearDown(changed, s, directives, now, &out)
	default:
		n.each(changed, directives, now, func(i int, d *directive) progress {
			due := entered(w).Add(d.delay(w.Status.State))
			var p progress
			switch w.Status.State {
			case Setup:
				p = n.setUp(changed, s, i, d, now, &out)
			case PreRun:
				p = n.mount(changed, s, i, d, now, &out)
				n.addEnvironment(changed, s, i, d)
			case PostRun:
				p = n.unmount(w, s, i, d, &out)
			default:
				p = copied(w, s)
			}
			if p.done && now.Before(due) {
				out.wakeAt(due)
				p.done = false
			}
			return p
		})
	}
	if !reflect.DeepEqual(changed.Status, w.Status) {
		out.write = changed
	}
	return out
}

// each moves NNF's drivers of the current state on. Whatever an earlier try said, it is tried again:
// no error is final.
func (n *nnf) each(w *Workflow, directives []*directive, now time.Time, work func(i int, d *directive) progress) {
	for k := range w.Status.Drivers {
		driver := &w.Status.Drivers[k]
		if driver.DriverID != "nnf" || driver.WatchState != w.Status.State || driver.Completed || driver.DWDIndex >= len(directives) {
			continue
		}
		work(driver.DWDIndex, directives[driver.DWDIndex]).tell(driver, now)
	}
}

// copied is how a copy goes.
func copied(w *Workflow, s *surroundings) progress {
	if why := s.system.Annotations[CopyAnnotation]; why != "" {
		text := fmt.Sprintf("data movement operation failed during '%s', message: %s", w.Status.State, why)
		return refusedBy(fatal("Internal", text, text))
	}
	return progress{done: true, message: "pending data movement"}
}

// late says whether NNF has waited too long for a node or rabbit, and wakes it when it will have.
func (n *nnf) late(w *Workflow, now time.Time, out *step) bool {
	due := entered(w).Add(n.options.ChildTimeout)
	if now.Before(due) {
		out.wakeAt(due)
		return false
	}
	return true
}

// notReconciled is what NNF then says of it.
func (n *nnf) notReconciled(user, what, node, object string) *refusal {
	return &refusal{"Internal", "Major", user, fmt.Sprintf("%s: Node: %s: %s has not been reconciled after %d seconds",
		what, node, object, int(n.options.ChildTimeout.Seconds()))}
}

// tell writes the progress into a driver.
func (p progress) tell(driver *Driver, now time.Time) {
	driver.Message, driver.Error = p.message, ""
	switch {
	case p.refused != nil:
		driver.Status = severityStatus(p.refused.severity)
		driver.Message, driver.Error = p.refused.message(), p.refused.text()
	case p.done:
		driver.Status, driver.Completed, driver.CompleteTime = Completed, true, microTime(now)
		driver.Message = ""
	default:
		driver.Status = Running
	}
}

// objectMeta is what NNF puts on an object that it makes for a directive.
func objectMeta(w *Workflow, index int, ownerKind string, owner metav1.Object, version, name, finalizer string) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{
		Name: name, Namespace: w.Namespace, Finalizers: []string{finalizer},
		Labels: workflowLabels(w, index),
	}
	own(&meta, ownerKind, owner, version)
	return meta
}

// workflowLabels are those of all that NNF makes for a directive.
func workflowLabels(w *Workflow, index int) map[string]string {
	return map[string]string{
		workflowLabel + "name": w.Name, workflowLabel + "namespace": w.Namespace, workflowLabel + "uid": string(w.UID),
		nnfGroup + "/directive_index": strconv.Itoa(index), nnfGroup + "/job_id": w.Spec.JobID.String(),
	}
}

// own makes owner the owner of an object, as DWS does.
func own(meta *metav1.ObjectMeta, kind string, owner metav1.Object, version string) {
	if meta.Labels == nil {
		meta.Labels = map[string]string{}
	}
	maps.Copy(meta.Labels, map[string]string{
		ownerLabel + "kind": kind, ownerLabel + "name": owner.GetName(),
		ownerLabel + "namespace": owner.GetNamespace(), ownerLabel + "uid": string(owner.GetUID()),
	})
	yes := true
	meta.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: Group + "/" + version, Kind: kind, Name: owner.GetName(), UID: owner.GetUID(),
		Controller: &yes, BlockOwnerDeletion: &yes,
	}}
}

// nameOf is the name of what belongs to a directive of a Workflow.
func nameOf(w *Workflow, index int) string { return w.Name + "-" + strconv.Itoa(index) }

// key is how the ledger knows a Servers.
func key(servers metav1.Object) string { return servers.GetNamespace() + "/" + servers.GetName() }

// profile is that of a directive.
func (n *nnf) profile(d *directive) (Profile, *refusal) {
	name := d.args["profile"]
	if name == "" {
		name = "default"
	}
	profile, found := n.options.Profiles[name]
	if !found {
		return Profile{}, userError("Unable to find NnfStorageProfile: %s", name)
	}
	return profile, nil
}

// fsType is that of the storage that a directive makes or uses; empty if it does neither.
func fsType(d *directive, s *surroundings) string {
	switch d.command {
	case "jobdw", "create_persistent":
		return d.args["type"]
	case "persistentdw":
		if instance := s.persistent[d.args["name"]]; instance != nil {
			return instance.Spec.FsType
		}
	}
	return ""
}

// addEnvironment adds what NNF tells the job of a directive. It does so when PreRun begins: the
// mounts follow.
func (n *nnf) addEnvironment(w *Workflow, s *surroundings, index int, d *directive) {
	var prefix, typeName string
	switch d.command {
	case "jobdw":
		prefix, typeName = "DW_JOB", strings.ToUpper(d.args["type"])
	case "persistentdw":
		prefix = "DW_PERSISTENT" // it has no type, and NNF uses the empty one
	case "container":
		maps.Copy(w.Status.Env, n.containerEnvironment(w, s, d))
		return
	default:
		return
	}
	path, name := mountPath(w, index), d.args["name"]
	entry := name + ":" + path
	list := prefix + "S"
	known := strings.Split(w.Status.Env[list], ",")
	if !slices.Contains(known, entry) {
		w.Status.Env[list] = strings.TrimPrefix(w.Status.Env[list]+","+entry, ",")
	}
	w.Status.Env[prefix+"_"+strings.ReplaceAll(name, "-", "_")] = path
	w.Status.Env[prefix+"_"+typeName] = path
}

func mountPath(w *Workflow, index int) string {
	return "/mnt/nnf/" + string(w.UID) + "-" + strconv.Itoa(index)
}
