package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/units"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// stoppedFile holds the units that were stopped for jobs, in that order. It is written
// before the first is stopped and removed after the last runs again.
func (l ClaimFiles) stoppedFile() string { return filepath.Join(string(l), "units") }

// stopped reads it.
func (l ClaimFiles) stopped() ([]string, error) {
	text, err := hostfile.Read(l.stoppedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(text), err
}

// stopUnits stops those of the configured units that run, for the first job that wants
// it: what did not run before a job is not started after it.
func (b *Driver) stopUnits(ctx context.Context, local ClaimFiles) error {
	if b.Cfg.Kubelet != slurmconf.KubeletStop {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.Cfg.UnitsTimeout.Std())
	defer cancel()
	unlock, err := local.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	systemd, err := units.Open(ctx, b.Cfg.DBusSocket)
	if err != nil {
		return err
	}
	defer systemd.Close()
	names, err := local.stopped()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		for _, unit := range b.Cfg.Units {
			active, err := systemd.Active(ctx, unit)
			if err != nil {
				return err
			}
			if active {
				names = append(names, unit)
			}
		}
		if len(names) == 0 {
			return nil
		}
		if err := hostfile.Write(local.stoppedFile(), strings.Join(names, "\n")+"\n", 0o644); err != nil {
			return err
		}
	}
	// Of an earlier job, which may have been killed half way: to stop twice is nothing.
	for _, unit := range names {
		if err := systemd.Stop(ctx, unit); err != nil {
			return err
		}
		b.Log.Infof("%s: stopped", unit)
	}
	return nil
}

// startUnits starts them again for the last job that reclaimed the node, and waits
// until Kubernetes has it Ready: only then may pods come.
func (b *Driver) startUnits(ctx context.Context, local ClaimFiles, job uint32, name string) error {
	if names, err := local.stopped(); err != nil || len(names) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.Cfg.UnitsTimeout.Std())
	defer cancel()
	unlock, err := local.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := local.reclaimed(job)
	if err != nil || others {
		return err
	}
	names, err := local.stopped()
	if err != nil {
		return err
	}
	systemd, err := units.Open(ctx, b.Cfg.DBusSocket)
	if err != nil {
		return err
	}
	defer systemd.Close()
	begun := time.Now().Truncate(time.Second) // as exact as the kubelet's own times
	slices.Reverse(names)
	for _, unit := range names {
		if err := systemd.Start(ctx, unit); err != nil {
			return err
		}
		b.Log.Infof("%s: started", unit)
	}
	if err := b.awaitReady(ctx, name, begun); err != nil {
		return err
	}
	return hostfile.Remove(local.stoppedFile())
}

// reclaimed tells whether another job than this one has reclaimed the node.
func (l ClaimFiles) reclaimed(but uint32) (bool, error) {
	jobs, err := l.Jobs()
	if err != nil {
		return false, err
	}
	for _, job := range jobs {
		if job.ID == but {
			continue
		}
		held, err := l.Get(job.ID)
		if err != nil {
			return false, err
		}
		if held != nil && held.Mode == Reclaim {
			return true, nil
		}
	}
	return false, nil
}

// awaitReady waits until the kubelet itself, and not the one before it, has told that
// the node is Ready.
func (b *Driver) awaitReady(ctx context.Context, name string, since time.Time) error {
	var pauses kube.Pauses
	for {
		node, err := b.nodes().Get(ctx, name)
		if err != nil || node == nil {
			return err
		}
		if readySince(node, since) {
			return nil
		}
		if pauses.Wait(ctx) != nil {
			return fmt.Errorf("node %s did not become Ready: see the kubelet's log", name)
		}
	}
}

func readySince(node *unstructured.Unstructured, since time.Time) bool {
	conditions, _, _ := unstructured.NestedSlice(node.Object, "status", "conditions")
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		if condition["type"] != "Ready" || condition["status"] != "True" {
			continue
		}
		told, err := time.Parse(time.RFC3339, text(condition["lastHeartbeatTime"]))
		return err == nil && !told.Before(since)
	}
	return false
}
