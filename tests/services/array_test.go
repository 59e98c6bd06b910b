package services

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

func TestEachTaskOfAnArrayHasAServiceOfItsOwn(t *testing.T) {
	for name, tt := range map[string]struct {
		option, squeue string
		told           []string
		want           string // "!": the refusal
	}{
		"a batch script":                       {"w-%a:8888", "exit 1", []string{"ARRAY_JOB_ID=10", "ARRAY_TASK_ID=3"}, "w-3"},
		"with zeros":                           {"name=dask-%A-%3a,port=8786", "exit 1", []string{"ARRAY_JOB_ID=10", "ARRAY_TASK_ID=3"}, "dask-10-003"},
		"a step that srun told nothing":        {"w-%a:8888", "echo '12|10_7|c1'", []string{"STEP_ID=0"}, "w-7"},
		"half of what srun could tell":         {"w-%a:8888", "echo '12|10_7|c1'", []string{"STEP_ID=0", "ARRAY_JOB_ID=10"}, "w-7"},
		"a job in no array":                    {"w-%a:8888", "exit 1", []string{"ARRAY_JOB_ID=0"}, "!the job is not in an array (sbatch --array): use %j"},
		"a step of a job in no array":          {"w-%a:8888", "echo '12|12|c1'", []string{"STEP_ID=0"}, "!the job is not in an array"},
		"a name that does not need to be told": {"w-%j:8888", "exit 1", nil, "w-12"},
		"the user's name":                      {"%u-web:8888", "exit 1", nil, "root-web"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.newNode(site{})
			n.squeue(tt.squeue)
			s := n.start(n.fields(append(tt.told, "K8S_REGISTER="+tt.option)...))
			reply := s.reply()
			if tt.want[0] == '!' {
				assert.Contains(t, reply, "CODE=2")
				assert.Contains(t, reply[len(reply)-1], tt.want[1:])
				assert.Empty(t, w.names())
				return
			}
			require.Contains(t, reply, "CODE=0")
			assert.Contains(t, w.names(), "services/"+tt.want)
			assert.Equal(t, []string{"CODE=0"}, s.end())
			assert.Empty(t, w.names())
		})
	}
}

func TestATaskThatFindsItsNameTakenIsToldHowArraysAreNamed(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	n.squeue(`printf '12|RUNNING|0|c1\n13|RUNNING|0|c1\n'`)
	first := n.start(n.fields("K8S_REGISTER=worker:8888", "ARRAY_JOB_ID=12", "ARRAY_TASK_ID=0"))
	require.Contains(t, first.reply(), "CODE=0")
	second := n.start(n.fields("JOB_ID=13", "K8S_REGISTER=worker:8888", "ARRAY_JOB_ID=12", "ARRAY_TASK_ID=1"))
	reply := second.reply()
	assert.Contains(t, reply, "CODE=2")
	assert.Contains(t, reply[len(reply)-1], "belongs to job 12, which is running: in an array write %a, the task's index, into the name, or share one service with host=array")
	assert.Equal(t, []string{"CODE=0"}, first.end())
}

const sharedByArray = "K8S_REGISTER=name=worker,port=8786,host=array,ready=none"

// startTask starts the batch step of a task of array 12.
func (n *node) startTask(id, task int) *step {
	return n.start(n.fields(fmt.Sprintf("JOB_ID=%d", id), "ARRAY_JOB_ID=12", fmt.Sprintf("ARRAY_TASK_ID=%d", task), sharedByArray))
}

func (n *node) epilog(id int) string {
	return n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, fmt.Sprintf("JOB_ID=%d", id), "NODE=c1")
}

// sharers are the Leases that own the Service worker, sorted.
func (w *world) sharers() []string {
	w.t.Helper()
	var names []string
	for _, owner := range w.get(service.Services, "worker").GetOwnerReferences() {
		names = append(names, owner.Name)
	}
	slices.Sort(names)
	return names
}

func TestTheTasksOfAnArrayShareOneServiceUntilTheLastOneEnds(t *testing.T) {
	for how, end := range map[string]func(n *node, s *step, id int){
		"end": func(n *node, s *step, _ int) { assert.Equal(n.t, []string{"CODE=0"}, s.end()) },
		"are killed": func(n *node, s *step, id int) {
			require.NoError(n.t, s.cmd.Process.Kill())
			_ = s.cmd.Wait()
			assert.Equal(n.t, "0 ", n.epilog(id))
		},
	} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			w.install()
			n := w.newNode(site{kubeconfig: w.credential("c1")}) // by the shipped rights and policy
			first := n.startTask(12, 0)                          // a task has the id of its array
			assert.Contains(t, first.reply(), "SETENV_SLURMK8S_SERVICE_WORKER=worker."+w.namespace+".svc:8786")
			uid := w.get(service.Services, "worker").GetUID()
			second, third := n.startTask(13, 1), n.startTask(14, 2)
			require.Contains(t, second.reply(), "CODE=0")
			require.Contains(t, third.reply(), "CODE=0")
			assert.Equal(t, []string{"slurm-alps-12", "slurm-alps-13", "slurm-alps-14"}, w.sharers())
			eventually.True(t, "ready", func() bool { return w.isReady("worker.alps.12.c1") && w.isReady("worker.alps.13.c1") })

			end(n, first, 12)
			assert.Equal(t, []string{"leases/slurm-alps-13", "leases/slurm-alps-14", "services/worker",
				"endpointslices/worker.alps.13.c1", "endpointslices/worker.alps.14.c1"}, w.names())
			end(n, third, 14)
			assert.Equal(t, []string{"slurm-alps-13"}, w.sharers())
			assert.Equal(t, uid, w.get(service.Services, "worker").GetUID())
			assert.True(t, w.isReady("worker.alps.13.c1"))
			end(n, second, 13)
			assert.Empty(t, w.names())
		})
	}
}

// Slurm starts a task as soon as another one ends: the one that leaves must not take the
// Service from the one that comes.
func TestATaskThatComesWhileTheLastOneLeavesHasTheService(t *testing.T) {
	w := newWorld(t)
	const tasks = 40
	var before *service.Registrar
	var held []*service.Registration
	for id := uint32(12); id < 12+tasks; id++ {
		r := w.task(id)
		var group sync.WaitGroup
		if leaver, regs := before, held; leaver != nil {
			group.Go(func() { assert.NoError(t, leaver.Deregister(t.Context(), regs)) })
		}
		group.Go(func() {
			var err error
			held, err = r.Register(t.Context(), w.specs("name=worker,port=8786,host=array"))
			assert.NoError(t, err)
		})
		group.Wait()
		require.Equal(t, []string{r.Job.LeaseName()}, w.sharers())
		before = r
	}
	require.NoError(t, before.Deregister(t.Context(), held))
	assert.Empty(t, w.names())
}

func TestManyTasksBeginAndEndAtOnce(t *testing.T) {
	w := newWorld(t)
	const tasks = 24
	regs := make([][]*service.Registration, tasks)
	all := make([]*service.Registrar, tasks)
	var group sync.WaitGroup
	for i := range all {
		all[i] = w.task(uint32(12 + i))
		group.Go(func() {
			var err error
			regs[i], err = all[i].Register(t.Context(), w.specs("name=worker,port=8786,host=array"))
			assert.NoError(t, err)
		})
	}
	group.Wait()
	assert.Len(t, w.sharers(), tasks)
	assert.Len(t, w.names(), 2*tasks+1)
	for i := range all {
		group.Go(func() { assert.NoError(t, all[i].Deregister(t.Context(), regs[i])) })
	}
	group.Wait()
	assert.Empty(t, w.names())
}

// task is the registrar of a task of array 12.
func (w *world) task(id uint32) *service.Registrar {
	r := w.registrar(id)
	r.Array, r.Task = 12, id-12
	return r
}

func TestARequeuedTaskKeepsItsPartOfTheService(t *testing.T) {
	w := newWorld(t)
	specs := w.specs("name=worker,port=8786,host=array")
	first, requeued := w.task(13), w.task(13)
	requeued.Job.Restarts, requeued.Node, requeued.Address = 1, "c2", first.Address.Next()
	held, err := first.Register(t.Context(), specs)
	require.NoError(t, err)
	again, err := requeued.Register(t.Context(), specs)
	require.NoError(t, err)
	after := []string{"leases/slurm-alps-13", "services/worker", "endpointslices/worker.alps.13.c2"}
	assert.Equal(t, after, w.names(), "no traffic to where it ran before")

	require.NoError(t, first.Deregister(t.Context(), held), "the first run, late")
	sweeper := &service.Sweeper{Kube: first.Kube, Cluster: cluster, Log: first.Log}
	require.NoError(t, sweeper.Job(t.Context(), w.namespace, first.Job, "c1"), "and its epilog")
	assert.Equal(t, after, w.names())
	assert.Equal(t, []string{"slurm-alps-13"}, w.sharers())
	require.NoError(t, requeued.Deregister(t.Context(), again))
	assert.Empty(t, w.names())
}

func TestATaskRestoresItsPartOfTheService(t *testing.T) {
	w := newWorld(t)
	specs := w.specs("name=worker,port=8786,host=array")
	one, two := w.task(13), w.task(14)
	held, err := one.Register(t.Context(), specs)
	require.NoError(t, err)
	other, err := two.Register(t.Context(), specs)
	require.NoError(t, err)
	w.delete(job.Leases, "slurm-alps-13")
	require.NoError(t, one.Renew(t.Context(), held, time.Hour))
	assert.Equal(t, []string{"slurm-alps-13", "slurm-alps-14"}, w.sharers())
	lease := w.get(job.Leases, "slurm-alps-13").GetUID()
	assert.Equal(t, lease, w.get(service.Services, "worker").GetOwnerReferences()[1].UID, "the Lease that there is now")
	w.delete(service.Services, "worker")
	require.NoError(t, one.Renew(t.Context(), held, time.Hour))
	require.NoError(t, two.Renew(t.Context(), other, time.Hour))
	assert.Equal(t, []string{"slurm-alps-13", "slurm-alps-14"}, w.sharers())
	require.NoError(t, errors.Join(one.Deregister(t.Context(), held), two.Deregister(t.Context(), other)))
	assert.Empty(t, w.names())
}

func TestWhoMayShareTheServiceOfAnArray(t *testing.T) {
	const option = "name=worker,port=8786,host=array"
	for name, tt := range map[string]struct {
		option string
		change func(*service.Registrar)
		over   bool   // the task that has it
		want   string // the refusal; "": the name is taken over
	}{
		"other options":                  {option: option + ",label=a=b", want: "task job 13 of this array registered it with other options"},
		"another array":                  {option: option, change: func(r *service.Registrar) { r.Array = 14 }, want: "belongs to job 13, which is running"},
		"another user":                   {option: option, change: func(r *service.Registrar) { r.Job.UID = 1001 }, want: "belongs to job 13, which is running"},
		"a job":                          {option: "worker:8786", change: func(r *service.Registrar) { r.Array = 0 }, want: "belongs to job 13, which is running"},
		"another array, when it is over": {option: option, change: func(r *service.Registrar) { r.Array = 14 }, over: true},
		"a job, when it is over":         {option: "worker:8786", change: func(r *service.Registrar) { r.Array = 0 }, over: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.task(13).Register(t.Context(), w.specs(option))
			require.NoError(t, err)
			before := w.names()
			r := w.task(14)
			if tt.change != nil {
				tt.change(r)
			}
			r.Alive = func(_ context.Context, c service.Claim) (bool, error) {
				assert.Equal(t, uint32(13), c.ID)
				return !tt.over, nil
			}
			regs, err := r.Register(t.Context(), w.specs(tt.option))
			if tt.want != "" {
				assert.ErrorContains(t, err, tt.want)
				assert.Equal(t, before, w.names())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []string{"slurm-alps-14"}, w.sharers())
			assert.NotContains(t, w.names(), "endpointslices/worker.alps.13.c1")
			require.NoError(t, r.Deregister(t.Context(), regs))
			assert.NotContains(t, w.names(), "services/worker")
		})
	}
}

func TestAStepCannotSayThatItIsInAnArray(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	n.squeue("echo '13|13|c1'")
	s := n.start(n.fields("JOB_ID=13", "STEP_ID=0", "ARRAY_JOB_ID=12", "ARRAY_TASK_ID=1", sharedByArray))
	assert.Equal(t, []string{"CODE=2", "MESSAGE=--k8s-register: host=array: the job is not in an array (sbatch --array)"}, s.reply())
	assert.Empty(t, w.names())
}

func TestReconcileTakesTasksThatAreOverOutOfTheirArraysService(t *testing.T) {
	w := newWorld(t)
	w.install()
	n := w.newNode(site{kubeconfig: "/nonexistent"})
	for _, id := range []uint32{12, 13, 14} {
		_, err := w.task(id).Register(t.Context(), w.specs("name=worker,port=8786,host=array"))
		require.NoError(t, err)
	}
	w.bind("User", "slurm-controller", "slurmk8s-reconcile")
	path, err := w.server.UserKubeconfig("slurm-controller")
	require.NoError(t, err)
	n.controllerOf(path)
	n.squeue("echo '13|RUNNING|root|c1'")
	out := n.run("reconcile", "--config", n.config)
	assert.Regexp(t, `^0 `, out)
	assert.Contains(t, out, "service "+w.namespace+"/worker (job 14 is over): removed")
	assert.Equal(t, []string{"leases/slurm-alps-13", "services/worker", "endpointslices/worker.alps.13.c1"}, w.names())
	assert.Equal(t, []string{"slurm-alps-13"}, w.sharers())
	assert.Equal(t, "0 ", n.run("reconcile", "--config", n.config), "again")
	assert.Contains(t, n.run("status", "--config", n.config, "13"), "headless 8786, shared by array 12")
	n.squeue("true")
	assert.Regexp(t, `^0 `, n.run("reconcile", "--config", n.config))
	assert.Empty(t, w.names())
}
