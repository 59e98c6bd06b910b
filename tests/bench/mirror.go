package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/node"
)

// imagesOnANode makes a Node as large as a kubelet does.
const imagesOnANode = 30

// mirrorScontrol is a scontrol that answers with recorded nodes, without Slurm's own time.
const mirrorScontrol = `#!/bin/sh
echo "$*" >>%[1]q/asked
case "$*" in
"show config") echo "BOOT_TIME = 1"; echo "NEXT_JOB_ID = 1000000" ;;
"--all show node") exec cat %[1]q/records ;;
"--all show node "*) exec awk -v names="$4" 'BEGIN { RS = ""; ORS = "\n\n"; n = split(names, list, ","); for (i = 1; i <= n; i++) asked["NodeName=" list[i]] }
	$1 in asked' %[1]q/records ;;
"update NodeName="*) ;;
*) exit 1 ;;
esac
`

// nodeRecord is a node as scontrol of 24.11 prints it.
const nodeRecord = `NodeName=%[1]s Arch=x86_64 CoresPerSocket=64
   CPUAlloc=0 CPUEfctv=128 CPUTot=128 CPULoad=0.03
   AvailableFeatures=milan,hpc
   ActiveFeatures=milan,hpc
   Gres=gpu:a100:4(S:0-1)
   NodeAddr=%[1]s NodeHostName=%[1]s Version=24.11.5
   OS=Linux 5.14.0-427.el9.x86_64 #1 SMP PREEMPT_DYNAMIC
   RealMemory=512000 AllocMem=0 FreeMem=498214 Sockets=2 Boards=1
   State=%[2]s ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A
   Partitions=batch,debug
   BootTime=2026-11-20T08:12:44 SlurmdStartTime=2026-11-20T08:14:02
   LastBusyTime=2026-11-29T11:03:19 ResumeAfterTime=None
   CfgTRES=cpu=128,mem=500G,billing=128,gres/gpu=4
   AllocTRES=
   CurrentWatts=0 AveWatts=0
%[3]s
`

// mirrors measures one run of "slurmk8s reconcile" on the controller of a large cluster, when
// both sides say the same and when some nodes have to change, beside kubectl get of the same
// Nodes. All Nodes are real objects; Slurm's are recorded.
func mirrors(ctx context.Context, b *bench) error {
	p, err := newPool(ctx, b)
	if err != nil {
		return err
	}
	nodes, changed := b.samples.mirrorNodes, b.samples.mirrorNodes/100
	if err := os.Mkdir(p.path("mirror"), 0o755); err != nil {
		return err
	}
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprintf("mirror-%04d", i)
	}
	if err := eachAtOnce(names, 8, func(name string) error { return p.makeLargeNode(ctx, name) }); err != nil {
		return err
	}
	if err := p.configureMirror(names, nil); err != nil {
		return err
	}
	const runs = 3
	var took, memory, kubectl, kubectlMemory []float64
	var requests float64
	for range runs {
		u, err := p.mirror(ctx, 0)
		if err != nil {
			return err
		}
		took, memory, requests = append(took, u.seconds), append(memory, u.megabytes), u.requests
		if u, err = p.use(ctx, p.kubectl, "--kubeconfig", p.server.Kubeconfig(), "get", "nodes", "-o", "json"); err != nil {
			return err
		}
		kubectl, kubectlMemory = append(kubectl, u.seconds), append(kubectlMemory, u.megabytes)
	}
	name := fmt.Sprintf("mirror_%d_nodes", nodes)
	b.report.add(name+"_s", "s", median(took), took).beside(median(kubectl))
	b.report.add(name+"_mb", "MB", median(memory), memory).beside(median(kubectlMemory))
	b.report.single(name+"_requests", "requests", requests)

	// Half of the changes begin on each side.
	if err := p.configureMirror(names, names[:changed]); err != nil {
		return err
	}
	if err := eachAtOnce(names[changed:2*changed], 8, func(name string) error {
		_, err := p.admin.Resource(node.Nodes).Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
		return err
	}); err != nil {
		return err
	}
	u, err := p.mirror(ctx, 2*changed)
	if err != nil {
		return err
	}
	b.report.single(fmt.Sprintf("%s_%d_changes_s", name, 2*changed), "s", u.seconds)
	b.report.single(fmt.Sprintf("%s_%d_changes_requests", name, 2*changed), "requests", u.requests)
	b.report.note("mirror_*: one run of slurmk8s reconcile on the controller, half of the changes begin in Slurm and cost a patch and an Event each, " +
		"the others are one scontrol; a list has a request for every 500 Nodes. The reference is kubectl get nodes -o json, which changes nothing. scontrol costs Slurm no time here")
	return p.deleteNodes(ctx, names)
}

// configureMirror writes slurmk8s.toml and what Slurm says; it drains some of the nodes.
func (p *pool) configureMirror(names, drained []string) error {
	var records strings.Builder
	for i, name := range names {
		state, reason := "IDLE", ""
		if i < len(drained) {
			state, reason = "IDLE+DRAIN", "   Reason=bad DIMM [root@2026-11-29T11:03:19]\n"
		}
		fmt.Fprintf(&records, nodeRecord, name, state, reason)
	}
	dir := p.path("mirror")
	for name, text := range map[string]string{
		"scontrol": fmt.Sprintf(mirrorScontrol, dir),
		"squeue":   "#!/bin/sh\n",
		"records":  records.String(),
		"slurmk8s.toml": fmt.Sprintf("slurm_conf = %q\nslurm_bin_dir = %q\nstate_dir = %q\n[kubernetes]\nkubeconfig = %q\n[log]\nfile = %q\n[nodes]\nmirror = \"both\"\n",
			p.path("slurm.conf"), dir, p.path("state"), p.server.Kubeconfig(), p.path("slurmk8s.log")),
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// used is what a program took.
type used struct {
	seconds, megabytes, requests float64
	out                          string
}

// mirror runs reconcile, which has to make so many changes.
func (p *pool) mirror(ctx context.Context, changes int) (used, error) {
	u, err := p.use(ctx, p.path("slurmk8s"), "reconcile", "--config", p.path("mirror/slurmk8s.toml"))
	if err == nil && strings.Count(u.out, ": done\n") != changes {
		err = fmt.Errorf("slurmk8s reconcile did not make %d changes: %s", changes, u.out)
	}
	return u, err
}

// use runs a program to its end.
func (p *pool) use(ctx context.Context, program string, args ...string) (u used, err error) {
	before, err := p.requests(ctx)
	if err != nil {
		return u, err
	}
	command := exec.CommandContext(ctx, program, args...)
	command.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + p.path("home")}
	begin := monotonic()
	out, err := command.Output()
	u.seconds, u.out = milliseconds(monotonic()-begin)/1000, string(out)
	if err != nil {
		return u, fmt.Errorf("%s: %w: %.500s", strings.Join(args, " "), err, out)
	}
	if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.megabytes = float64(usage.Maxrss) / 1024
	}
	after, err := p.requests(ctx)
	u.requests = after - before
	return u, err
}

// makeLargeNode makes a Node that is ready and has a kubelet's list of images.
func (p *pool) makeLargeNode(ctx context.Context, name string) error {
	var images, conditions []any
	for i := range imagesOnANode {
		repository := fmt.Sprintf("registry.example.org/site/some-image-%02d", i)
		images = append(images, map[string]any{"sizeBytes": int64(1 << 28), "names": []any{
			repository + "@sha256:" + strings.Repeat(fmt.Sprintf("%02x", i), 32), repository + ":v1.2.3",
		}})
	}
	for condition, status := range map[string]string{"Ready": "True", "DiskPressure": "False", "MemoryPressure": "False", "PIDPressure": "False"} {
		conditions = append(conditions, map[string]any{
			"type": condition, "status": status, "reason": "Kubelet", "message": "kubelet has said so",
			"lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
		})
	}
	_, err := p.admin.Resource(node.Nodes).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name, "labels": map[string]any{"kubernetes.io/hostname": name}},
		"status": map[string]any{"conditions": conditions, "images": images},
	}}, metav1.CreateOptions{})
	return err
}
