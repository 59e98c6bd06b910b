package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/address"
	slurmjob "slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// serviceSpec is a service whose port nobody opens: what is measured is the registration.
const serviceSpec = "name=web,port=80:8888"

// registrations measures what --k8s-register adds before the first task: `slurmk8s step` from
// its start to its answer, and the requests alone on a connection that is there, beside
// kubectl apply of the same Service and EndpointSlice.
func registrations(ctx context.Context, b *bench) error {
	address, err := b.configureNode(ctx)
	if err != nil {
		return err
	}
	client, err := kube.New(kube.Options{Kubeconfig: b.server.Kubeconfig(), RequestTimeout: 10 * time.Second, Log: silent()})
	if err != nil {
		return err
	}
	var cold, warm, gone, reference []float64
	for i := range 1 + b.samples.calls { // the first warms the file cache and kubectl's discovery
		b.lastJob++
		c, g, err := b.step(ctx, b.lastJob)
		if err != nil {
			return err
		}
		b.lastJob++
		w, manifests, err := b.registerWarm(ctx, client, b.lastJob, address)
		if err != nil {
			return err
		}
		r, err := b.kubectlApply(ctx, manifests)
		if err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		cold, gone, warm, reference = append(cold, c), append(gone, g), append(warm, w), append(reference, r)
	}
	b.report.add("register_cold_ms", "ms", median(cold), cold).beside(median(reference)).within(50)
	b.report.add("register_warm_ms", "ms", median(warm), warm).beside(median(reference))
	b.report.add("deregister_ms", "ms", median(gone), gone)
	return nil
}

// configureNode writes the configuration of a compute node, which is this host.
func (b *bench) configureNode(ctx context.Context) (netip.Addr, error) {
	cfg := slurmconf.Default()
	folders, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return netip.Addr{}, err
	}
	for _, f := range folders {
		cfg.Services.Address = slurmconf.AddressInterface + f.Name()
		address, err := (address.Finder{}).Find(ctx, cfg, "bench")
		if err != nil {
			continue
		}
		text := fmt.Sprintf("slurm_conf = %q\nstate_dir = %q\n[log]\nfile = %q\n[services]\nkubeconfig = %q\nrun_dir = %q\naddress = %q\n"+
			"[[services.allow]]\nusers = ['*']\nnamespaces = [%q]\n", b.path("slurm.conf"), b.path("state"), b.path("slurmk8s.log"),
			b.server.Kubeconfig(), b.path("run"), cfg.Services.Address, namespace)
		return address, os.WriteFile(b.path("node.toml"), []byte(text), 0o600)
	}
	return netip.Addr{}, errors.New("this host has no network interface but loopback: a service needs an address")
}

// step runs the step program of a job as slurmstepd does. It returns how long the answers to
// the registration and to its end took.
func (b *bench) step(ctx context.Context, job int) (registered, deregistered float64, err error) {
	command := exec.CommandContext(ctx, b.path("slurmk8s"), "step")
	command.Env = []string{}
	in, err := command.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	begin := monotonic()
	if err := command.Start(); err != nil {
		return 0, 0, err
	}
	ask := func(begin time.Duration, fields ...string) (float64, error) {
		if _, err := io.WriteString(in, strings.Join(fields, "\x00")+"\x00\x00"); err != nil {
			return 0, err
		}
		answer := make([]byte, 4096)
		n, err := out.Read(answer)
		took := milliseconds(monotonic() - begin)
		if err != nil || !strings.HasPrefix(string(answer[:n]), "CODE=0\x00") {
			return 0, fmt.Errorf("slurmk8s step answers %q (%w)", answer[:n], err)
		}
		return took, nil
	}
	registered, err = ask(begin, "CONFIG="+b.path("node.toml"), fmt.Sprintf("JOB_ID=%d", job), "STEP_ID=batch", "UID=0", "GID=0",
		"NODE=bench", "NODELIST=bench", "NODE_RANK=0", "RESTART_COUNT=0", "K8S_REGISTER="+serviceSpec)
	if err == nil {
		deregistered, err = ask(monotonic(), "ACTION=deregister")
	}
	_ = in.Close()
	return registered, deregistered, errors.Join(err, command.Wait())
}

// registerWarm registers in this process, and leaves what it made as manifests.
func (b *bench) registerWarm(ctx context.Context, client *kube.Client, job int, address netip.Addr) (ms float64, manifests string, err error) {
	specs, err := service.Parse(serviceSpec, nil)
	if err != nil {
		return 0, "", err
	}
	specs[0].Namespace = namespace
	r := &service.Registrar{
		Kube: client, Job: slurmjob.Job{Cluster: "bench", ID: uint32(job), User: "root"}, Step: "batch", Node: "bench",
		Address: address, LeaseDuration: time.Minute, Log: silent(),
	}
	begin := monotonic()
	regs, err := r.Register(ctx, specs)
	if err != nil {
		return 0, "", err
	}
	ms = milliseconds(monotonic() - begin)
	manifests, err = b.manifests(ctx, job)
	return ms, manifests, errors.Join(err, r.Deregister(ctx, regs))
}

func silent() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// manifests writes the Service and the EndpointSlice of a job as a user would have them,
// without their owner, and returns the folder.
func (b *bench) manifests(ctx context.Context, job int) (string, error) {
	folder := b.path(fmt.Sprintf("manifests.%d", job))
	if err := os.Mkdir(folder, 0o700); err != nil {
		return "", err
	}
	for file, gvr := range map[string]struct {
		name string
		get  func(context.Context, string, metav1.GetOptions, ...string) (*unstructured.Unstructured, error)
	}{
		"1.json": {"web", b.client.Resource(service.Services).Namespace(namespace).Get},
		"2.json": {fmt.Sprintf("web.bench.%d.bench", job), b.client.Resource(service.EndpointSlices).Namespace(namespace).Get},
	} {
		o, err := gvr.get(ctx, gvr.name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		o.Object["metadata"] = map[string]any{"name": gvr.name, "namespace": namespace, "labels": o.Object["metadata"].(map[string]any)["labels"]}
		for _, field := range []string{"clusterIP", "clusterIPs"} {
			unstructured.RemoveNestedField(o.Object, "spec", field)
		}
		delete(o.Object, "status")
		text, err := o.MarshalJSON()
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(folder, file), text, 0o600); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// kubectlApply is how long kubectl takes for the two objects, as a job script would call it.
func (b *bench) kubectlApply(ctx context.Context, manifests string) (float64, error) {
	kubectl := func(args ...string) (float64, error) {
		command := exec.CommandContext(ctx, b.kubectl, append([]string{"--kubeconfig", b.server.Kubeconfig(), "-n", namespace}, args...)...)
		command.Env = []string{"HOME=" + b.path("home")}
		_, c, err := timed(command)
		return c.wall, err
	}
	var total float64
	for _, file := range []string{"1.json", "2.json"} {
		took, err := kubectl("apply", "-f", filepath.Join(manifests, file))
		if err != nil {
			return 0, err
		}
		total += took
	}
	_, err := kubectl("delete", "--wait=false", "-f", manifests)
	return total, err
}
