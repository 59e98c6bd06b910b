package api

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/dwssim"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// rabbitBytes is what a rabbit of the simulator has: 18 drives of 2 TiB.
const rabbitBytes = 18 * (2 << 40)

// withRabbits is a site of a machine with storage of three rabbits, as NNF provides it:
// r1 has nodes c01 to c04, r2 c05 to c08, r3 c09 to c12.
func withRabbits(t *testing.T, versions ...string) *site {
	t.Helper()
	c := own(t)
	rabbits := map[string][]string{}
	for i := range 12 {
		rabbit := fmt.Sprintf("r%d", i/4+1)
		rabbits[rabbit] = append(rabbits[rabbit], fmt.Sprintf("c%02d", i+1))
	}
	var err error
	c.sim, err = dwssim.Start(t.Context(), c.server.Config(), dwssim.Options{Versions: versions, NNF: &dwssim.NNF{Rabbits: rabbits}})
	require.NoError(t, err)
	for _, object := range manifest(t, "storage.yaml", "default") {
		c.apply(t, object)
	}
	s := c.siteIn(t, "default")
	t.Cleanup(func() {
		for _, r := range []string{"r1", "r2", "r3"} {
			assert.EqualValues(t, rabbitBytes, s.free(r), "free on %s at the end", r)
		}
	})
	return s
}

func (s *site) object(resource, namespace, name string) *unstructured.Unstructured {
	s.t.Helper()
	u, err := s.c.admin.Resource(schema.GroupVersionResource{Group: dwssim.WorkflowsResource("").Group, Version: s.c.version(), Resource: resource}).
		Namespace(namespace).Get(s.t.Context(), name, metav1.GetOptions{})
	require.NoError(s.t, err)
	return u
}

// placed is what a Servers was filled with: "xfs [r1:2 r2:1]".
func (s *site) placed(servers string) string {
	s.t.Helper()
	sets, _, _ := unstructured.NestedSlice(s.object("servers", "default", servers).Object, "spec", "allocationSets")
	var texts []string
	for _, set := range sets {
		storage, _, _ := unstructured.NestedSlice(set.(map[string]any), "storage")
		var on []string
		for _, r := range storage {
			on = append(on, fmt.Sprintf("%v:%v", r.(map[string]any)["name"], r.(map[string]any)["allocationCount"]))
		}
		texts = append(texts, fmt.Sprintf("%s %v", set.(map[string]any)["label"], on))
	}
	return strings.Join(texts, "; ")
}

// health gives a rabbit a status, and returns when a list from the API server's cache, as
// placement reads it, has it.
func (s *site) health(rabbit, status string) {
	s.t.Helper()
	require.NoError(s.t, s.c.sim.SetStorageStatus(s.t.Context(), rabbit, strings.TrimPrefix(status, "Ready")))
	storages := s.c.admin.Resource(schema.GroupVersionResource{Group: dwssim.WorkflowsResource("").Group, Version: s.c.version(), Resource: "storages"})
	require.Eventually(s.t, func() bool {
		list, err := storages.Namespace("default").List(s.t.Context(), metav1.ListOptions{ResourceVersion: "0"})
		require.NoError(s.t, err)
		for _, u := range list.Items {
			if u.GetName() == rabbit {
				is, _, _ := unstructured.NestedString(u.Object, "status", "status")
				return is == status
			}
		}
		return false
	}, patience, 10*time.Millisecond)
}

func (s *site) free(rabbit string) int64 { return s.c.sim.Free(rabbit) }

// ends runs the hooks of a job's end.
func (j *job) ends() {
	j.s.t.Helper()
	for _, name := range []string{"post_run", "data_out", "test_data_out", "job_teardown"} {
		j.ok(name)
	}
	require.Nil(j.s.t, j.get())
}

func on(nodes string) string { return wire.KeyNodes + "=" + nodes }

func TestJobsGetTheStorageOfRabbits(t *testing.T) {
	for _, versions := range [][]string{{"v1alpha6"}, dwssim.DefaultVersions} {
		t.Run(strings.Join(versions, " and "), func(t *testing.T) {
			s := withRabbits(t, versions...)
			t.Run("xfs on the nodes that the job got", func(t *testing.T) {
				j := s.job("#DW jobdw type=xfs capacity=50GB name=scratch", "#DW copy_in source=/lus/global/in destination=$DW_JOB_scratch/")
				for _, name := range []string{"setup", "data_in", "test_data_in"} {
					j.ok(name)
					j.in(dwssim.Proposal)
				}
				assert.Equal(t, "", s.placed(j.name()+"-0"))
				j.ok("pre_run", on("c01,c02,c05"))
				j.in(dwssim.PreRun)
				assert.Equal(t, "xfs [r1:2 r2:1]", s.placed(j.name()+"-0"))
				assert.Less(t, s.free("r1"), int64(rabbitBytes-100e9))
				j.ends()
			})
			t.Run("Lustre while the job waits for its nodes", func(t *testing.T) {
				j := s.job("#DW jobdw type=lustre capacity=10TiB name=scratch")
				j.ok("setup")
				j.in(dwssim.Setup)
				assert.Equal(t, "ost [r2:1 r3:1]; mgtmdt [r1:1]", s.placed(j.name()+"-0"))
				j.ok("data_in")
				j.ok("test_data_in")
				j.in(dwssim.DataIn)
				j.ok("pre_run", on("c01,c02"))
				j.in(dwssim.PreRun)
				j.ends()
			})
			t.Run("both in one job", func(t *testing.T) {
				j := s.job("#DW jobdw type=gfs2 capacity=50GB name=first", "#DW jobdw type=lustre capacity=1TB name=second profile=ostcount")
				j.ok("setup")
				j.in(dwssim.Proposal)
				j.ok("pre_run", on("c01,c02,c05"))
				j.in(dwssim.PreRun)
				assert.Equal(t, "gfs2 [r1:2 r2:1]", s.placed(j.name()+"-0"))
				assert.Equal(t, "ost [r1:1 r2:2]; mgtmdt [r3:1]", s.placed(j.name()+"-1"))
				j.ends()
			})
			t.Run("data_in waits itself before Slurm 24.05", func(t *testing.T) {
				j := s.job("#DW jobdw type=lustre capacity=1TB name=scratch")
				j.ok("setup", wire.KeyBusy+"=")
				j.ok("data_in", wire.KeyBusy+"=")
				j.in(dwssim.DataIn)
				j.ok("job_teardown")
			})
		})
	}
}

func TestWhatARabbitCannotGiveIsToldInALine(t *testing.T) {
	s := withRabbits(t)
	s.write("squeue", `#!/bin/sh
for word; do case $word in --jobs=*) id=${word#--jobs=};; esac; done
case "$*" in *%x*) echo "$id||";; *%i*) echo "$id|$id|";; *) cat `+s.path("jobs")+`;; esac
`, 0o755)
	s.write("scontrol", `#!/bin/sh
case "$*" in show*) echo BOOT_TIME = 1000; echo NEXT_JOB_ID = 10000;; *) echo "$@" >>`+s.path("asked")+`;; esac
`, 0o755)
	// asked is what Slurm was asked to change since the last time.
	asked := func() string {
		text, _ := os.ReadFile(s.path("asked"))
		_ = os.Remove(s.path("asked"))
		return strings.TrimSpace(string(text))
	}
	t.Run("no room on the job's nodes", func(t *testing.T) {
		large := s.job("#DW jobdw type=xfs capacity=20TiB name=scratch")
		large.ok("setup")
		large.ok("pre_run", on("c01"))
		j := s.job("#DW jobdw type=xfs capacity=20TiB name=scratch")
		j.ok("setup")
		assert.Equal(t, "xfs needs 20.01 TiB on r1 for node c02, and 11.99 TiB is free [#DW jobdw type=xfs capacity=20TiB name=scratch]",
			j.fails("pre_run", on("c02")))
		j.in(dwssim.Proposal)
		j.ok("job_teardown")
		assert.Equal(t, fmt.Sprintf("update JobId=%d ExcNodeList=c01,c02,c03,c04", j.id), asked())

		// Put back into the queue, it gets another node.
		j.ok("setup", wire.KeyRestart+"=1")
		j.ok("pre_run", on("c05"), wire.KeyRestart+"=1")
		assert.Equal(t, "xfs [r2:1]", s.placed(j.name()+"-0"))
		j.ends()
		large.ends()
	})
	t.Run("a rabbit that is drained between setup and pre_run", func(t *testing.T) {
		j := s.job("#DW jobdw type=xfs capacity=50GB name=scratch")
		j.ok("setup")
		s.health("r2", "Drained")
		assert.Contains(t, j.fails("pre_run", on("c04,c05")), "r2 (of c05) is Drained: ")
		s.health("r2", "Ready")
		j.ok("job_teardown")
		assert.Equal(t, fmt.Sprintf("update JobId=%d ExcNodeList=c05,c06,c07,c08", j.id), asked())
	})
	t.Run("a node that DWS does not know, for which it would wait for ever", func(t *testing.T) {
		for _, directive := range []string{"#DW jobdw type=xfs capacity=50GB name=scratch", "#DW jobdw type=lustre capacity=1TB name=scratch"} {
			j := s.job(directive)
			j.ok("setup")
			j.ok("data_in")
			j.ok("test_data_in")
			assert.Equal(t, "DWS does not know node c99: SystemConfiguration default/default does not list it by the name that Slurm uses",
				j.fails("pre_run", on("c01,c99")))
			j.ok("job_teardown")
			assert.Empty(t, asked())
		}
	})
	t.Run("a node's rabbit that has less room than is counted: the job is put back, not cancelled", func(t *testing.T) {
		require.NoError(t, s.c.sim.SetFull(t.Context(), "r1", true))
		j := s.job("#DW jobdw type=xfs capacity=50GB name=scratch")
		j.ok("setup")
		assert.Contains(t, j.fails("pre_run", on("c01,c05")), "r1: insufficient capacity available")
		j.ok("job_teardown")
		assert.NoFileExists(t, s.path("cancelled"))
		assert.Equal(t, fmt.Sprintf("update JobId=%d ExcNodeList=c01,c02,c03,c04", j.id), asked())
		j.ok("setup", wire.KeyRestart+"=1")
		j.ok("pre_run", on("c05,c06"), wire.KeyRestart+"=1")
		j.ends()
		require.NoError(t, s.c.sim.SetFull(t.Context(), "r1", false))
	})
	t.Run("a rabbit that has less room than is counted: another one is taken", func(t *testing.T) {
		require.NoError(t, s.c.sim.SetFull(t.Context(), "r2", true))
		j := s.job("#DW jobdw type=lustre capacity=1TB name=scratch profile=scale1")
		j.ok("setup")
		j.in(dwssim.Setup)
		assert.Equal(t, "ost [r3:1]; mgtmdt [r1:1]", s.placed(j.name()+"-0"))
		require.NoError(t, s.c.sim.SetFull(t.Context(), "r2", false))
		j.ok("job_teardown")
	})
	t.Run("all rabbits have less room than is counted: the job waits", func(t *testing.T) {
		for _, rabbit := range []string{"r1", "r2", "r3"} {
			require.NoError(t, s.c.sim.SetFull(t.Context(), rabbit, true))
		}
		j := s.job("#DW jobdw type=lustre capacity=1TB name=scratch profile=scale1")
		j.ok("setup")
		assert.Equal(t, dwssim.Setup, j.workflow().Spec.DesiredState)
		j.ok("data_in")
		code, _ := j.run("test_data_in")
		assert.Equal(t, wire.Busy, code)
		for _, rabbit := range []string{"r1", "r2", "r3"} {
			require.NoError(t, s.c.sim.SetFull(t.Context(), rabbit, false))
		}
		require.Eventually(t, func() bool {
			code, _ := j.run("test_data_in")
			return code == wire.OK
		}, patience, 100*time.Millisecond)
		j.in(dwssim.DataIn)
		j.ok("job_teardown")
	})
	t.Run("no room for Lustre: the job waits for it", func(t *testing.T) {
		large := s.job("#DW jobdw type=lustre capacity=80TiB name=scratch")
		large.ok("setup")
		j := s.job("#DW jobdw type=lustre capacity=80TiB name=scratch")
		j.ok("setup")
		j.in(dwssim.Proposal)
		j.ok("data_in")
		code, _ := j.run("test_data_in")
		assert.Equal(t, wire.Busy, code)
		large.ok("job_teardown")
		j.ok("test_data_in")
		j.in(dwssim.DataIn)
		j.ok("job_teardown")
	})
}

// What a newcomer gets wrong.
func TestMistakesWithRabbitsAreToldInALine(t *testing.T) {
	s := withRabbits(t)
	code, message := s.job("#DW jobdw type=xfs capacity=50 name=scratch").run("job_process", "DEADLINE_MS=30000")
	assert.Equal(t, wire.Refused, code)
	assert.Contains(t, message, "capacity")

	j := s.job("#DW jobdw type=xfs capacity=50GB name=scratch profile=fast")
	assert.Contains(t, j.fails("setup"), "Unable to find NnfStorageProfile: fast")
	j.ok("job_teardown")

	j = s.job("#DW jobdw type=lustre capacity=200TiB name=scratch")
	assert.Regexp(t, `^ost needs 200.00 TiB, and 9\d.\d\d TiB is free: r\d .*\[#DW jobdw type=lustre capacity=200TiB name=scratch\]$`, j.fails("setup"))
	j.ok("job_teardown")

	j = s.job("#DW create_persistent type=xfs capacity=50GB name=mine")
	j.ok("setup")
	j.ok("pre_run", on("c01,c02,c05"))
	j.ok("job_teardown") // and Slurm requeues it
	for _, name := range []string{"setup", "data_in", "test_data_in"} {
		j.ok(name, wire.KeyRestart+"=1")
	}
	j.ok("pre_run", on("c09,c10,c11"), wire.KeyRestart+"=1")
	j.ends()
	assert.Equal(t, "xfs [r1:2 r2:1]", s.placed("mine"))

	j = s.job("#DW create_persistent type=xfs capacity=100GB name=mine")
	assert.Equal(t, "persistent storage mine exists already: use it, or choose another name [#DW create_persistent type=xfs capacity=100GB name=mine]",
		j.fails("setup"))
	j.ok("job_teardown")

	use := "#DW persistentdw name=mine"
	j = s.job(use)
	j.ok("setup")
	j.in(dwssim.Proposal)
	assert.Equal(t, "persistent storage mine was made for 3 nodes, and the job has 2", j.fails("pre_run", on("c01,c05")))
	assert.Equal(t, "persistent storage mine has 2 allocations on r1, and the job has 3 nodes there: it was made on r1, r2", j.fails("pre_run", on("c01,c02,c03")))
	j.ok("pre_run", on("c03,c04,c08"))
	j.in(dwssim.PreRun)

	out, err := exec.Command(common.program, "storage", "--config", s.path("slurmk8s.toml")).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Regexp(t, `(?m)^r1 +31\.\d\d TiB +32\.00 TiB +4 +Ready$`, string(out))
	assert.Regexp(t, `(?m)^r3 +32\.00 TiB +32\.00 TiB +4 +Ready$`, string(out))
	assert.Regexp(t, `(?m)^mine +xfs +\S+ +Active +r1,r2 +default/`+j.name()+`-0$`, string(out))
	out, err = exec.Command(common.program, "storage", "--config", s.path("slurmk8s.toml"), "r9").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), `there is no rabbit and no persistent storage "r9"`)

	out, err = exec.Command(common.program, "setup", "--print-nodes", "--config", s.path("slurmk8s.toml")).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "\nNodeName=c05,c06,c07,c08 Feature=r2\n")

	// xfs is mounted for one job at a time: the next one waits in the queue.
	next := s.job(use)
	next.ok("setup")
	code, _ = next.run("test_data_in")
	assert.Equal(t, wire.Busy, code)
	j.ends()
	next.ok("test_data_in")
	next.ok("job_teardown")

	stranger := s.job(use)
	assert.Contains(t, stranger.fails("setup", wire.KeyUID+"=1007"), "User ID does not match")
	stranger.ok("job_teardown")

	destroy := "#DW destroy_persistent name=mine"
	stranger = s.job(destroy)
	assert.Equal(t, "persistent storage mine belongs to another user ["+destroy+"]", stranger.fails("setup", wire.KeyUID+"=1007"))
	stranger.ok("job_teardown")

	// Used by another job when the destroying one ends: the instance stays.
	early := s.job(destroy)
	early.ok("setup")
	user := s.job(use)
	user.ok("setup")
	user.ok("pre_run", on("c03,c04,c08"))
	j = s.job(destroy)
	j.ok("setup")
	j.in(dwssim.Proposal)
	early.ok("pre_run", on("c01"))
	early.ends()
	user.ends()

	require.Equal(t, "xfs [r1:2 r2:1]", s.placed("mine"))
	j.ok("setup")
	j.ok("data_in")
	j.ok("test_data_in")
	j.ok("pre_run", on("c01"))
	j.ends()
}

// NNF waits for a node until SystemStatus disables it. Slurm is the one that knows.
func TestAJobWhoseNodeDiesWhileItHasMountedEnds(t *testing.T) {
	s := withRabbits(t)
	slurmctld := slurmtest.NewNodes(t, s.dir)
	slurmctld.Set("c01", "IDLE", "")
	statuses := s.c.admin.Resource(schema.GroupVersionResource{Group: dwssim.WorkflowsResource("").Group, Version: s.c.version(), Resource: "systemstatuses"}).Namespace("default")
	disabled := func() map[string]string {
		u, err := statuses.Get(t.Context(), "default", metav1.GetOptions{})
		require.NoError(t, err)
		nodes, _, _ := unstructured.NestedStringMap(u.Object, "data", "nodes")
		return nodes
	}
	j := s.job("#DW jobdw type=xfs capacity=50GB name=scratch")
	j.ok("setup")
	j.ok("pre_run", on("c01,c02"))
	require.NoError(t, s.c.sim.SetHung(t.Context(), "c02"))
	slurmctld.Set("c02", "DOWN+NOT_RESPONDING", "")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		j.ok("post_run")
	}()
	j.long(dwssim.PostRun)
	<-ended
	assert.Equal(t, map[string]string{"c02": "Disabled"}, disabled())
	for _, name := range []string{"data_out", "test_data_out", "job_teardown"} {
		j.ok(name)
	}
	require.Nil(t, j.get())

	t.Run("and reconcile lets NNF wait for the node when it lives again", func(t *testing.T) {
		require.NoError(t, s.c.sim.SetHung(t.Context()))
		reconcile := func() {
			out, err := exec.Command(common.program, "reconcile", "--config", s.path("slurmk8s.toml")).CombinedOutput()
			require.NoError(t, err, string(out))
		}
		reconcile()
		assert.NotEmpty(t, disabled(), "it is down")
		slurmctld.Set("c02", "IDLE", "")
		reconcile()
		assert.Empty(t, disabled())
	})
	t.Run("a node that dies while it is to mount", func(t *testing.T) {
		require.NoError(t, s.c.sim.SetHung(t.Context(), "c03"))
		slurmctld.Set("c03", "DOWN+NOT_RESPONDING", "")
		j := s.job("#DW jobdw type=xfs capacity=50GB name=scratch")
		j.ok("setup")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			j.ok("pre_run", on("c01,c03"))
		}()
		j.long(dwssim.PreRun)
		<-ended
		go func() {
			j.long(dwssim.Teardown)
		}()
		j.ok("job_teardown")
		require.Nil(t, j.get())
		require.NoError(t, s.c.sim.SetHung(t.Context()))
	})
}

// long makes a Workflow that waits in a state have been there for long.
func (j *job) long(state string) {
	eventually.True(j.s.t, "the Workflow waits in "+state, func() bool {
		u := j.get()
		if u == nil {
			return state == dwssim.Teardown // it did not wait
		}
		desired, _, _ := unstructured.NestedString(u.Object, "spec", "desiredState")
		if desired != state {
			return false
		}
		patch := fmt.Sprintf(`{"metadata": {"annotations": {"slurmk8s.io/state-since": %q}}}`, time.Now().Add(-time.Hour).Format(time.RFC3339))
		_, err := j.s.workflows().Patch(j.s.t.Context(), j.name(), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err == nil
	})
}

// The data is there before the job has nodes, and Slurm is asked for nodes of that storage.
func TestStorageThatIsMadeFirst(t *testing.T) {
	s := withRabbits(t)
	s.configure(`rabbit_feature = "on-{rabbit}"`, `placement = "storage-first"`, `pool = "rabbits"`)
	s.write("squeue", `#!/bin/sh
for word; do case $word in --jobs=*) id=${word#--jobs=};; esac; done
case "$*" in *%f*) echo "$id|2||c01,c09|gpu";; *) echo "$id|$id|";; esac
`, 0o755)
	slurmctld := slurmtest.NewNodes(t, s.dir)
	for i := range 12 {
		slurmctld.Set(fmt.Sprintf("c%02d", i+1), "IDLE", "")
	}
	j := s.job("#DW jobdw type=xfs capacity=50GB name=scratch", "#DW copy_in source=/lus/global/in destination=$DW_JOB_scratch/")
	j.ok("setup")
	j.ok("data_in")
	j.ok("test_data_in")
	j.in(dwssim.DataIn)
	assert.Equal(t, "xfs [r1:1 r3:1]", s.placed(j.name()+"-0"))
	assert.Equal(t, []string{fmt.Sprintf("update JobId=%d Features=[(gpu&on-r1)*1&(gpu&on-r3)*1]", j.id)}, slurmctld.Changes())
	size, err := os.ReadFile(s.path(fmt.Sprintf("state/job.%d/size", j.id)))
	require.NoError(t, err)
	assert.Equal(t, "100629217280\n", string(size))
	assert.Equal(t, "the storage was made for other nodes, on r1, r3 [#DW jobdw type=xfs capacity=50GB name=scratch]", j.fails("pre_run", on("c01,c02")))
	j.ok("pre_run", on("c02,c12"))
	j.ends()
}

func TestTwentyJobsThatWantMoreThanThereIs(t *testing.T) {
	s := withRabbits(t)
	var all sync.WaitGroup
	for range 20 { // three at most find a rabbit for their MGS, and 90 of 96 TiB
		j := s.job("#DW jobdw type=lustre capacity=30TiB name=scratch")
		all.Go(func() {
			for _, name := range []string{"setup", "data_in", "test_data_in"} {
				j.ok(name)
			}
			j.ok("pre_run", on("c01"))
			j.in(dwssim.PreRun)
			j.ends()
		})
	}
	all.Wait()
}
