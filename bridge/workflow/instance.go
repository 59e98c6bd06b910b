package workflow

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

// instance is a persistent instance that a directive uses.
type instance struct {
	name    string
	servers placement.Servers
}

// instances reads the persistent instances that the directives use, and refuses those that
// DWS would refuse in Setup or wait for. DWS takes each of them for storage of nodes, which
// Lustre is not; its breakdown loses that. Of an instance that is still being made the
// breakdown of a persistentdw tells nothing: the directive does.
func (d *Driver) instances(ctx context.Context, o *object, breakdowns []placement.Breakdown) ([]instance, error) {
	var all []instance
	for i := range breakdowns {
		b := &breakdowns[i]
		if len(b.Sets) == 0 && len(b.Locations) == 0 && command(b.Directive) == "persistentdw" {
			id := types.NamespacedName{Namespace: o.Namespace, Name: argument(b.Directive, "name")}
			b.Locations = []placement.Location{{Servers: id, Physical: true}}
		}
		if len(b.Sets) > 0 || len(b.Locations) == 0 {
			continue
		}
		id := b.Locations[0].Servers
		u, err := d.objects("persistentstorageinstances", id.Namespace).Get(ctx, id.Name)
		if err != nil {
			return nil, err
		}
		if u == nil {
			return nil, &placement.Refusal{Text: fmt.Sprintf("persistent storage %s does not exist [%s]", id.Name, b.Directive), Never: true}
		}
		p := readInstance(u)
		if why, never := p.unusable(o); why != "" {
			return nil, &placement.Refusal{Text: fmt.Sprintf("persistent storage %s %s [%s]", id.Name, why, b.Directive), Never: never}
		}
		if p.fsType == "lustre" {
			for j := range b.Locations {
				b.Locations[j].Physical = false
			}
			continue
		}
		servers, err := d.objects("servers", p.servers.Namespace).Get(ctx, p.servers.Name)
		if err != nil {
			return nil, err
		}
		if servers == nil {
			return nil, fmt.Errorf("persistent storage %s names servers %s, which do not exist", id.Name, p.servers)
		}
		all = append(all, instance{id.Name, placement.ReadServers(servers)})
	}
	return all, nil
}

// checkDestroyed refuses to destroy a persistent instance that is another user's, and lets
// the job wait for one that is in use: the provider judges both in Teardown only, when the
// job is over.
func (d *Driver) checkDestroyed(ctx context.Context, o *object) error {
	for _, directive := range o.Directives {
		name := argument(directive, "name")
		if command(directive) != "destroy_persistent" || name == "" {
			continue
		}
		u, err := d.objects("persistentstorageinstances", o.Namespace).Get(ctx, name)
		if kube.Is(err, kube.Denied) || kube.Is(err, kube.Unserved) {
			d.log.Warnf("whether persistent storage %s can be destroyed is not known before Teardown: %v", name, err)
			continue
		}
		if err != nil {
			return err
		}
		if u == nil {
			continue // destroyed already
		}
		p := readInstance(u)
		switch {
		case p.owner != o.OwnerUID:
			return &placement.Refusal{Text: fmt.Sprintf("persistent storage %s belongs to another user [%s]", name, directive), Never: true}
		case len(p.consumers) > 0:
			return &placement.Refusal{Text: fmt.Sprintf("persistent storage %s is in use by %s [%s]", name, p.consumers[0], directive)}
		}
	}
	return nil
}

// persistent is what is read of a PersistentStorageInstance.
type persistent struct {
	fsType    string // raw, xfs, gfs2, lustre
	owner     int64  // uid
	open      bool   // to other users as well
	state     string // "Active" is the one to use
	deleting  bool
	servers   types.NamespacedName
	consumers []string // "namespace/workflow-index"
}

// annotationIgnoreUID opens an instance to users who do not own it.
const annotationIgnoreUID = "dataworkflowservices.github.io/ignore-uid"

func readInstance(u *unstructured.Unstructured) persistent {
	text := func(fields ...string) string {
		t, _, _ := unstructured.NestedString(u.Object, fields...)
		return t
	}
	p := persistent{
		fsType: text("spec", "fsType"), state: text("status", "state"), deleting: u.GetDeletionTimestamp() != nil,
		open:    u.GetAnnotations()[annotationIgnoreUID] == "true",
		servers: types.NamespacedName{Namespace: text("status", "servers", "namespace"), Name: text("status", "servers", "name")},
	}
	p.owner, _, _ = unstructured.NestedInt64(u.Object, "spec", "userID")
	references, _, _ := unstructured.NestedSlice(u.Object, "spec", "consumerReferences")
	for _, r := range references {
		if r, ok := r.(map[string]any); ok {
			p.consumers = append(p.consumers, fmt.Sprintf("%v/%v", r["namespace"], r["name"]))
		}
	}
	return p
}

// unusable says why the Workflow cannot use the instance, now or never; "": it can.
func (p persistent) unusable(o *object) (why string, never bool) {
	switch {
	case p.owner != o.OwnerUID && !p.open:
		return "belongs to another user", true
	case p.deleting || p.state == "Destroying":
		return "is being destroyed", true
	case p.state != "Active":
		return "is not ready to be used: it is " + cmp.Or(p.state, "not made yet"), false
	}
	if p.fsType == "xfs" { // mounted for one job at a time
		for _, c := range p.consumers {
			if !strings.HasPrefix(c, o.Namespace+"/"+o.Name+"-") {
				return "is in use by " + c, false
			}
		}
	}
	return "", false
}
