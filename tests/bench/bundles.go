package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// sixObjects are of kinds that Kubernetes's controllers have no part in: what is measured is our
// share, not how long pods take.
const sixObjects = `apiVersion: v1
kind: ConfigMap
metadata: {name: "${name}-a"}
data: {greeting: "${greeting}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "${name}-b"}
---
apiVersion: v1
kind: Service
metadata: {name: "${name}"}
spec: {selector: {app: "${name}"}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: "${name}"}
spec: {podSelector: {matchLabels: {app: "${name}"}}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: "${name}"}
spec: {defaultBackend: {service: {name: "${name}", port: {number: 80}}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: "${name}"}
spec: {maxUnavailable: 0, selector: {matchLabels: {app: "${name}"}}}
`

// atOnce is how many jobs with a bundle are staged together.
const atOnce = 50

// bundles measures a bundle of six objects: how long slurmctld stands still at the submission,
// beside kubectl's dry run of the same objects, and how long they take to come and to go.
func bundles(ctx context.Context, b *bench) error {
	if err := b.installBundle(); err != nil {
		return err
	}
	manifest, err := b.renderBundle(ctx)
	if err != nil {
		return err
	}
	var hold, stage, teardown, reference, applied []float64
	for i := range 1 + b.samples.calls { // the first warms the file cache and kubectl's discovery
		j, err := b.newJob([]string{"#DW bundle six greeting=hello"})
		if err != nil {
			return err
		}
		took := map[string]float64{}
		for _, s := range []step{{jobProcess, true}, {"slurm_bb_setup", false}, {"slurm_bb_data_in", false}, {"slurm_bb_job_teardown", false}} {
			run := b.waiting.fork
			if s.here {
				run = b.waiting.here
			}
			o, err := run(s.hook, b.hookArguments(s.hook, j))
			if err != nil {
				return err
			}
			took[s.hook] = o.ms()
		}
		dry, err := b.kubectlBundle(ctx, manifest, "apply", "--dry-run=server")
		if err != nil {
			return err
		}
		apply, err := b.kubectlBundle(ctx, manifest, "apply")
		if err != nil {
			return err
		}
		if _, err := b.kubectlBundle(ctx, manifest, "delete"); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		hold, reference, applied = append(hold, took[jobProcess]), append(reference, dry), append(applied, apply)
		stage = append(stage, took["slurm_bb_setup"]+took["slurm_bb_data_in"])
		teardown = append(teardown, took["slurm_bb_job_teardown"])
	}
	b.report.add("bundle_submit_hold_p50_ms", "ms", median(hold), hold).beside(median(reference)).within(60)
	b.report.add("bundle_stage_ms", "ms", median(stage), stage).beside(median(applied)).within(150)
	b.report.add("bundle_teardown_ms", "ms", median(teardown), teardown).within(100)
	together, err := b.manyBundles(ctx)
	if err != nil {
		return err
	}
	b.report.single(fmt.Sprintf("bundle_stage_%d_at_once_ms", atOnce), "ms", together)
	return nil
}

// installBundle writes the bundle, a squeue that knows all jobs, and a rule for everybody.
func (b *bench) installBundle() error {
	if err := os.MkdirAll(b.path("bundles/six"), 0o755); err != nil {
		return err
	}
	config, err := os.ReadFile(b.path("slurmk8s.toml"))
	if err != nil {
		return err
	}
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"bundles/six/bundle.toml": {"summary = \"six objects\"\n[param.greeting]\ntype = \"string\"\nhelp = \"what it says\"\n" +
			"[[phase]]\nname = \"all\"\nfiles = [\"objects.yaml\"]\n", 0o644},
		"bundles/six/objects.yaml": {sixObjects, 0o644},
		"squeue":                   {"#!/bin/sh\nfor a; do case $a in --jobs=*) echo \"${a#--jobs=}|" + uid + "|bench|account|partition\";; esac; done\n", 0o755},
		"slurmk8s.toml": {fmt.Sprintf("slurm_bin_dir = %q\n%s[bundles]\ndirs = [%q]\n[[bundles.allow]]\nusers = ['*']\nbundles = ['*']\nnamespaces = [%q]\n",
			b.dir, config, b.path("bundles"), namespace), 0o600},
	} {
		if err := os.WriteFile(b.path(name), []byte(file.text), file.mode); err != nil {
			return err
		}
	}
	return nil
}

// renderBundle writes the objects as kubectl takes them, and returns the file.
func (b *bench) renderBundle(ctx context.Context) (string, error) {
	command := exec.CommandContext(ctx, b.path("slurmk8s"), "bundle", "render", b.path("bundles/six"), "greeting=hello", "name=six", "ns="+namespace)
	text, _, err := timed(command)
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.dir, "six.yaml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func (b *bench) kubectlBundle(ctx context.Context, file string, args ...string) (float64, error) {
	command := exec.CommandContext(ctx, b.kubectl, append([]string{"--kubeconfig", b.server.Kubeconfig()}, append(args, "-f", file)...)...)
	command.Env = []string{"HOME=" + b.path("home")}
	_, c, err := timed(command)
	return c.wall, err
}

// manyBundles is how long it takes to stage a bundle for each of many jobs, all at once.
func (b *bench) manyBundles(ctx context.Context) (float64, error) {
	jobs := make([]*job, atOnce)
	for i := range jobs {
		var err error
		if jobs[i], err = b.newJob([]string{"#DW bundle six greeting=hello"}); err != nil {
			return 0, err
		}
	}
	all := func(hooks ...string) error {
		failed := make([]error, atOnce)
		var group sync.WaitGroup
		for i, j := range jobs {
			group.Go(func() {
				for _, hook := range hooks {
					if failed[i] == nil {
						failed[i] = b.program(ctx, hook, j)
					}
				}
			})
		}
		group.Wait()
		for _, err := range failed {
			if err != nil {
				return err
			}
		}
		return nil
	}
	begin := time.Now()
	if err := all("slurm_bb_setup", "slurm_bb_data_in"); err != nil {
		return 0, err
	}
	took := milliseconds(time.Since(begin))
	return took, all("slurm_bb_job_teardown")
}

// program runs a hook as a process of its own: a host runs one after another. more are fields
// beyond those of each hook.
func (b *bench) program(ctx context.Context, hook string, j *job, more ...string) error {
	command := exec.CommandContext(ctx, b.path("slurmk8s"), "hook", "-0", hook)
	command.Stdin = strings.NewReader(strings.Join(append([]string{"CONFIG=" + b.path("slurmk8s.toml"), "JOB_ID=" + j.id, "UID=" + uid, "GID=" + gid,
		"USER_NAME=bench", "SCRIPT=" + j.script, "RESTART_COUNT=0", "SUBMIT_TIME=1700000000"}, more...), "\x00") + "\x00")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s of job %s: %w: %.300q", hook, j.id, err, out)
	}
	return nil
}
