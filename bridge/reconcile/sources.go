package reconcile

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Everywhere are the duties as the controller sees them.
func Everywhere(duties []duty.Duty, h duty.Host) []Source {
	var sources []Source
	for _, d := range duties {
		sources = append(sources, func(ctx context.Context) ([]duty.Object, error) {
			objects, err := d.List(ctx, h)
			if errors.Is(err, duty.ErrAbsent) && len(duties) > 1 {
				return objects, nil // a site may have the others only
			}
			if err != nil {
				err = &listError{d, err}
			}
			return objects, err
		})
	}
	return sources
}

// listError says of which duty not all objects are known.
type listError struct {
	of  duty.Duty
	err error
}

func (e *listError) Error() string { return e.err.Error() }
func (e *listError) Unwrap() error { return e.err }

// Here are the duties of this host: as the controller sees them, where it has the
// controller's credential, and what a node does itself, where it has that of a node. With
// onlyNode the first are left out. An error is that of one credential.
func Here(duties []duty.Duty, h duty.Host, onlyNode bool, open func(kubeconfig string) (*kube.Client, error)) (sources []Source, controller bool, failed []error) {
	cfg := h.Config
	clients := map[string]*kube.Client{}
	with := func(kubeconfig string, add func(duty.Host)) {
		client, known := clients[kubeconfig]
		if !known {
			var err error
			if client, err = open(kubeconfig); err != nil {
				failed = append(failed, err)
			}
			clients[kubeconfig] = client
		}
		if client != nil {
			h := h
			h.Kube = client
			add(h)
		}
	}
	onNode := 0
	for _, d := range duties {
		if d, ok := d.(duty.OnNode); ok && isOurs(cfg, d.Kubeconfig(cfg)) {
			onNode++
			with(d.Kubeconfig(cfg), func(h duty.Host) {
				sources = append(sources, func(ctx context.Context) ([]duty.Object, error) { return d.ListHere(ctx, h) })
			})
		}
	}
	// Without any credential, the error about the controller's is the one to tell.
	if controller = !onlyNode && (exists(cfg.Kubernetes.Kubeconfig) || onNode == 0); controller {
		with(cfg.Kubernetes.Kubeconfig, func(h duty.Host) { sources = append(Everywhere(duties, h), sources...) })
	}
	return sources, controller, failed
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// isOurs leaves what is root's to root's reconcile, on a host that is controller and node.
func isOurs(cfg *slurmconf.Config, path string) bool {
	return exists(path) && !(exists(cfg.Kubernetes.Kubeconfig) && errors.Is(unix.Access(path, unix.R_OK), unix.EACCES))
}
