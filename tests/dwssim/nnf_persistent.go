package dwssim

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// locks say which Workflow has a persistent xfs mounted: one at a time.
type locks struct {
	mu    sync.Mutex
	owner map[string]types.UID
}

// take returns true if the Workflow has the lock now.
func (l *locks) take(servers string, w *Workflow) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner == nil {
		l.owner = map[string]types.UID{}
	}
	if owner, taken := l.owner[servers]; taken && owner != w.UID {
		return false
	}
	l.owner[servers] = w.UID
	return true
}

func (l *locks) release(servers string, w *Workflow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner[servers] == w.UID {
		delete(l.owner, servers)
	}
}

// consumer is how a persistent instance names a directive that uses it.
func consumer(w *Workflow, index int, kind string) ObjectReference {
	return ObjectReference{Kind: kind, Namespace: w.Namespace, Name: nameOf(w, index)}
}

// consume makes a persistentdw a user of its instance, in Setup.
func (n *nnf) consume(w *Workflow, s *surroundings, i int, d *directive, out *step) progress {
	instance := s.persistent[d.args["name"]]
	if instance == nil || instance.Status.State != "Active" {
		// Read, not recorded: the mock puts Active back at once.
		return refusedBy(fatal("User", "PersistentStorage is not active", "PersistentStorage is not active"))
	}
	if !addConsumer(instance, consumer(w, i, "Workflow"), out) {
		return waiting("allocation")
	}
	return progress{done: true}
}

// addConsumer returns true if the consumer is there.
func addConsumer(instance *PersistentStorageInstance, reference ObjectReference, out *step) bool {
	if slices.Contains(instance.Spec.ConsumerReferences, reference) {
		return true
	}
	changed := *instance
	changed.Spec.ConsumerReferences = append(slices.Clone(instance.Spec.ConsumerReferences), reference)
	out.add(update, kindPersistent, &changed)
	return false
}

// removeConsumer returns true if the consumer is not there.
func removeConsumer(instance *PersistentStorageInstance, reference ObjectReference, out *step) bool {
	if instance == nil || !slices.Contains(instance.Spec.ConsumerReferences, reference) {
		return true
	}
	changed := *instance
	changed.Spec.ConsumerReferences = slices.DeleteFunc(slices.Clone(instance.Spec.ConsumerReferences), func(other ObjectReference) bool { return other == reference })
	out.add(update, kindPersistent, &changed)
	return false
}

// findMGS finds the MGS of a pool for a Lustre, if the profile wants that.
func (n *nnf) findMGS(w *Workflow, s *surroundings, i int, profile Profile, d *directive, out *step) *refusal {
	pool, wanted := strings.CutPrefix(profile.ExternalMGS, "pool:")
	if !wanted || d.args["type"] != "lustre" {
		return nil
	}
	for _, name := range sortedKeys(s.persistent) {
		instance := s.persistent[name]
		if instance != nil && instance.Labels[standaloneLabel] == pool && instance.Status.State == "Active" {
			addConsumer(instance, consumer(w, i, "NnfStorage"), out)
			return nil
		}
	}
	why := "no MGSs found for pool: " + pool
	return fatal("User", why, fmt.Sprintf("could not create NnfStorage: CreateOrUpdate failed for NnfStorage: %s/%s: %s", w.Namespace, nameOf(w, i), why))
}

// tearDown frees what a Workflow has, and keeps or destroys persistent instances. w is changed.
func (n *nnf) tearDown(w *Workflow, s *surroundings, directives []*directive, now time.Time, out *step) {
	passed := !slices.ContainsFunc(w.Status.Drivers, func(d Driver) bool { return d.WatchState != Teardown && !d.Completed })
	complete := true
	states := map[int]progress{}
	for i, d := range directives {
		var p progress
		switch d.command {
		case "create_persistent":
			p = n.keep(w, s, i, d, passed, out)
		case "destroy_persistent":
			p = n.destroy(w, s, d, out)
		default:
			p = progress{done: n.free(w, s, i, d, out), message: "delete"}
		}
		if due := entered(w).Add(d.delay(Teardown)); p.done && now.Before(due) {
			out.wakeAt(due)
			p = waiting("delete")
		}
		states[i] = p
		complete = complete && p.done
	}
	n.each(w, directives, now, func(i int, _ *directive) progress {
		p := states[i]
		p.done = p.done && complete
		return p
	})
}

// free gives back what a jobdw or persistentdw has. It returns true when nothing is left.
func (n *nnf) free(w *Workflow, s *surroundings, i int, d *directive, out *step) bool {
	if !n.removeMounts(w, s, i, out) {
		return false
	}
	servers := s.servers[i]
	switch {
	case servers == nil:
		return true
	case d.command == "persistentdw":
		n.locks.release(key(servers), w)
		return removeConsumer(s.persistent[d.args["name"]], consumer(w, i, "Workflow"), out)
	case d.command == "jobdw":
		n.ledger.release(key(servers))
		for _, name := range sortedKeys(s.persistent) {
			if !removeConsumer(s.persistent[name], consumer(w, i, "NnfStorage"), out) {
				return false
			}
		}
		status := released(servers.Status)
		if reflect.DeepEqual(status, servers.Status) {
			return true
		}
		changed := *servers
		changed.Status = status
		out.add(updateStatus, kindServers, &changed)
		return false
	}
	return true
}

// owned says whether an instance still belongs to the breakdown of a Workflow's directive, and so
// goes with it.
func owned(w *Workflow, i int, instance *PersistentStorageInstance) bool {
	return instance.Labels[ownerLabel+"name"] == nameOf(w, i) && instance.Labels[ownerLabel+"kind"] == kindBreakdown.name
}

// keep ends a create_persistent: the instance stays if the Workflow passed all its states before.
func (n *nnf) keep(w *Workflow, s *surroundings, i int, d *directive, passed bool, out *step) progress {
	instance := s.persistent[d.args["name"]]
	if instance == nil || !owned(w, i, instance) {
		return progress{done: true}
	}
	if !passed {
		n.removeInstance(instance, s.servers[i], out)
		return waiting("delete")
	}
	changed := *instance
	instance.ObjectMeta.DeepCopyInto(&changed.ObjectMeta)
	for _, name := range []string{"kind", "name", "namespace", "uid"} {
		delete(changed.Labels, ownerLabel+name)
	}
	changed.OwnerReferences = nil
	out.add(update, kindPersistent, &changed)
	return waiting("delete")
}

// destroy ends a destroy_persistent, whatever happened to the Workflow before.
func (n *nnf) destroy(w *Workflow, s *surroundings, d *directive, out *step) progress {
	instance := s.persistent[d.args["name"]]
	switch {
	case instance == nil:
		return progress{done: true}
	case instance.Spec.UserID != w.Spec.UserID:
		return refusedBy(fatal("User", "user ID does not match existing persistent storage",
			fmt.Sprintf("Existing persistent storage user ID %d does not match user ID %d", instance.Spec.UserID, w.Spec.UserID)))
	case len(instance.Spec.ConsumerReferences) > 0:
		consumers := len(instance.Spec.ConsumerReferences)
		return refusedBy(fatal("User", "persistent storage cannot be deleted while in use", fmt.Sprintf(
			"persistent storage cannot be deleted with %d consumers: PersistentStorage cannot be deleted with %d consumers", consumers, consumers)))
	}
	servers := &Servers{}
	servers.Namespace, servers.Name = instance.Namespace, instance.Name
	n.removeInstance(instance, servers, out)
	return waiting("delete")
}

// removeInstance deletes a persistent instance and its storage.
func (n *nnf) removeInstance(instance *PersistentStorageInstance, servers *Servers, out *step) {
	if servers != nil {
		n.ledger.release(key(servers))
		out.add(letGo, kindServers, servers)
	}
	out.add(letGo, kindPersistent, instance)
}

// dispose lets a deleted Workflow go once all that NNF made for it is gone. What is to be destroyed
// stays: only Teardown does that.
func (n *nnf) dispose(w *Workflow, s *surroundings, directives []*directive, out *step) {
	if !slices.Contains(w.Finalizers, workflowFinalizer) {
		return
	}
	for i, d := range directives {
		if !n.free(w, s, i, d, out) {
			continue
		}
		if instance := s.persistent[d.args["name"]]; d.command == "create_persistent" && instance != nil && owned(w, i, instance) {
			n.removeInstance(instance, s.servers[i], out)
		}
		if d.command == "jobdw" && s.servers[i] != nil {
			out.add(letGo, kindServers, s.servers[i])
		}
		if s.breakdowns[i] != nil {
			out.add(letGo, kindBreakdown, s.breakdowns[i])
		}
	}
	if len(out.changes) > 0 {
		return
	}
	if len(s.mounts) > 0 {
		return // of a node that hangs
	}
	out.write = w.deepCopy()
	if token := w.Status.WorkflowToken; token != nil {
		// With an API server alone there is no garbage collector.
		for _, name := range []string{token.SecretName, token.SecretName + "-server"} {
			out.add(letGo, kindSecret, &secret{ObjectMeta: metav1.ObjectMeta{Namespace: token.SecretNamespace, Name: name}})
		}
	}
	out.write.Finalizers = slices.DeleteFunc(out.write.Finalizers, func(name string) bool { return name == workflowFinalizer })
}
