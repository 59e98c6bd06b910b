// Package stage makes the objects of bundles in Kubernetes, phase after phase, waits until
// they are ready, and removes them in reverse order. One Lease for each bundle of a job owns
// all its objects and lists them. It is not the Lease of the job's services, which the
// epilog of a node removes.
package stage

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/labels"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

// Driver makes, watches and removes the bundles of one job. Every method may be
// interrupted at any instant and called again.
type Driver struct {
	Kube *kube.Client
	// As makes and changes objects in the name of the job's user, so that RBAC judges it; nil:
	// Kube does. What must work even if the user has lost every right is Kube's: reads, Leases,
	// removals, and what is made at the end of the job.
	As  *kube.Client
	Job job.Job
	// Alive tells whether another job, which has an object of a name that this one wants,
	// still lives. An error means that nobody knows: the name is left to it. nil: nobody
	// can be asked, and it counts as dead in Check and as living otherwise.
	Alive func(context.Context, job.Job) (bool, error)
	Log   *logrus.Entry
}

// atOnce is how many requests for one bundle are under way at the same time.
const atOnce = 16

// each calls f for every one of n things, several at once, and returns all errors.
func each(n int, f func(i int) error) error {
	failed := make([]error, n)
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			failed[i] = safely.Do(func() error { return f(i) })
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

func (d *Driver) leases(namespace string) *kube.Objects { return d.Kube.Objects(job.Leases, namespace) }

func (d *Driver) objects(l *lease, i item) *kube.Objects { return d.Kube.Objects(i.gvr(), l.Namespace) }

// written is objects for what the user has to have the right to do.
func (d *Driver) written(l *lease, i item) *kube.Objects {
	if d.As == nil {
		return d.objects(l, i)
	}
	return d.As.Objects(i.gvr(), l.Namespace)
}

func (d *Driver) name(l *lease, i item) string {
	return kube.ObjectName(i.Resource, l.Namespace, i.Name)
}

// inventory lists the objects of a set, all of them with where the API has them.
func (d *Driver) inventory(ctx context.Context, set Set, phases []bundle.Phase) ([]item, error) {
	var items []item
	seen := map[item]bool{}
	for _, p := range phases {
		for _, u := range p.Objects {
			resource, err := d.resourceOf(ctx, u)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", set, err)
			}
			i := item{Phase: p.Name, Wait: p.Wait, Group: resource.Group, Version: resource.Version, Resource: resource.Resource, Kind: u.GetKind(), Name: u.GetName()}
			same := item{Group: i.Group, Resource: i.Resource, Name: i.Name}
			if seen[same] {
				return nil, fmt.Errorf("%s: %s %s is there twice", set, i.Kind, i.Name)
			}
			seen[same] = true
			items = append(items, i)
		}
	}
	return items, nil
}

// selector selects the objects of one bundle.
func (d *Driver) selector(l *lease) string {
	of, _ := d.of(l.Unstructured)
	set := labels.Set{}
	for key, value := range bundle.Labels(of, l.Instance) {
		set[key] = value.(string)
	}
	if of.ID == 0 {
		return set.String() + ",!" + job.LabelJobID
	}
	return set.String()
}
