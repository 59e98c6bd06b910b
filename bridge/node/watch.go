package node

import (
	"context"

	"k8s.io/apimachinery/pkg/fields"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/safely"
)

// news is what there is to know of a node's pods: all of them, or one that came,
// changed or went, or an error that trying again will not fix.
type news struct {
	all  []pod // if isAll
	one  pod
	gone bool // one is

	isAll bool
	err   error
}

// follow tells what becomes of the node's pods until ctx ends. It begins with all of them
// as they are now, not as a cache has them: a pod that was bound just before the node was
// closed has to be among them.
func (b *Driver) follow(ctx context.Context, node string) <-chan news {
	out := make(chan news)
	tell := func(n news) {
		select {
		case out <- n:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(out)
		pods := b.Kube.Objects(Pods, "").Watch(kube.Selection{Fields: fields.OneTermEqualSelector("spec.nodeName", node).String()}, "")
		defer pods.Stop()
		err := safely.Do(func() error {
			for {
				change, err := pods.Next(ctx)
				if err != nil {
					return err
				}
				n := news{isAll: change.Listed, gone: change.Gone}
				for i := range change.All {
					n.all = append(n.all, readPod(&change.All[i], b.Cfg))
				}
				if change.Object != nil {
					n.one = readPod(change.Object, b.Cfg)
				}
				tell(n)
			}
		})
		if ctx.Err() == nil {
			tell(news{err: err})
		}
	}()
	return out
}
