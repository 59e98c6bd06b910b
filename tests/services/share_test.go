package services

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// stepOf is the step that a slice says it is of; "" if there is no slice.
func (w *world) stepOf(slice string) string {
	u, err := w.admin.Resource(service.EndpointSlices).Namespace(w.namespace).Get(w.t.Context(), slice, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return u.GetAnnotations()[service.AnnotationStep]
}

func TestASharedServiceOutlivesTheStepThatMadeIt(t *testing.T) {
	ends := map[string]func(*step){
		"ends":      func(s *step) { assert.Equal(s.t, []string{"CODE=0"}, s.end()) },
		"is killed": func(s *step) { require.NoError(s.t, s.cmd.Process.Kill()) },
	}
	for how, end := range ends {
		for _, options := range []string{"host=batch", "host=all", "endpoints=both"} {
			t.Run(how+" "+options, func(t *testing.T) {
				w := newWorld(t)
				n := w.newNode(site{renewInterval: "10m"}) // that is not what is waited for
				option := "K8S_REGISTER=name=a,port=8888,ready=none," + options
				first := n.start(n.fields("STEP_ID=0", option))
				require.Contains(t, first.reply(), "CODE=0")
				eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })
				uid := w.get(service.Services, "a").GetUID()
				lease := w.get(job.Leases, "slurm-alps-12").GetUID()
				second := n.start(n.fields("STEP_ID=1", option))
				require.Contains(t, second.reply(), "CODE=0")
				assert.Equal(t, "0", w.stepOf("a.alps.12.c1"), "one of the two has it")

				end(first)
				eventually.True(t, "taken over and ready", func() bool {
					return w.stepOf("a.alps.12.c1") == "1" && n.isReady("a.alps.12.c1")
				})
				assert.Equal(t, uid, w.get(service.Services, "a").GetUID(), "clients keep their address")
				assert.Equal(t, lease, w.get(job.Leases, "slurm-alps-12").GetUID())
				assert.Equal(t, []string{"CODE=0"}, second.end())
				assert.Empty(t, w.names())
				assert.Equal(t, "0 ", n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "NODE=c1"))
				assert.False(t, n.marked(12))
			})
		}
	}
}

func TestWhatWasLeftToAStepThatIsKilledIsTheEpilogs(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	const option = "K8S_REGISTER=name=a,port=8888,ready=none"
	first := n.start(n.fields("STEP_ID=0", option))
	require.Contains(t, first.reply(), "CODE=0")
	second := n.start(n.fields("STEP_ID=1", option))
	require.Contains(t, second.reply(), "CODE=0")
	assert.Equal(t, []string{"CODE=0"}, first.end())
	require.NoError(t, second.cmd.Process.Kill())
	_ = second.cmd.Wait()
	assert.NotEmpty(t, w.names())
	assert.Equal(t, "0 ", n.run("hook", "k8s_job_epilog", "CONFIG="+n.config, "JOB_ID=12", "NODE=c1"))
	assert.Empty(t, w.names())
	assert.False(t, n.marked(12))
}

func TestOfManyStepsThatShareOneAtATimeServes(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{renewInterval: "10m"})
	living := map[string]*step{}
	for i := range 4 {
		id := fmt.Sprint(i)
		living[id] = n.start(n.fields("STEP_ID="+id, "K8S_REGISTER=name=a,port=8888,ready=none"))
		require.Contains(t, living[id].reply(), "CODE=0")
	}
	uid := w.get(service.Services, "a").GetUID()
	for len(living) > 0 {
		serving := ""
		eventually.True(t, "served by one that lives", func() bool {
			serving = w.stepOf("a.alps.12.c1")
			return living[serving] != nil && n.isReady("a.alps.12.c1")
		})
		assert.Equal(t, uid, w.get(service.Services, "a").GetUID())
		assert.Equal(t, serving, w.get(service.Services, "a").GetAnnotations()[service.AnnotationStep])
		assert.Equal(t, []string{"CODE=0"}, living[serving].end())
		delete(living, serving)
	}
	assert.Empty(t, w.names())
}

func TestAStepOnAnotherNodeTakesASharedServiceOver(t *testing.T) {
	for how, gone := range map[string]func(*world, *service.Registrar, []*service.Registration){
		"when its holder has removed it": func(w *world, r *service.Registrar, regs []*service.Registration) {
			require.NoError(w.t, r.Deregister(w.t.Context(), regs))
			assert.Empty(w.t, w.names())
		},
		"when nobody renews the lease": func(w *world, r *service.Registrar, regs []*service.Registration) {
			eventually.True(w.t, "run out", func() bool {
				_, fresh := job.Renewed(w.get(job.Leases, "slurm-alps-12"), r.Job, time.Now())
				return !fresh
			})
		},
	} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			holder, sharer := w.registrar(12), w.registrar(12)
			holder.Step, holder.LeaseDuration = "0", 3*time.Second
			sharer.Step, sharer.Node, sharer.Address = "1", "c2", holder.Address.Next()
			held, err := holder.Register(t.Context(), w.specs("a:8888"))
			require.NoError(t, err)
			require.NoError(t, holder.Ready(t.Context(), held[0]))
			shared, err := sharer.Register(t.Context(), w.specs("a:8888"))
			require.NoError(t, err)
			require.True(t, shared[0].Shared)
			lease := w.get(job.Leases, "slurm-alps-12")
			require.NoError(t, sharer.Renew(t.Context(), shared, time.Microsecond))
			assert.True(t, shared[0].Shared, "its holder lives")
			assert.Equal(t, lease, w.get(job.Leases, "slurm-alps-12"), "a step that only shares keeps nobody alive")

			gone(w, holder, held)
			require.NoError(t, sharer.Renew(t.Context(), shared, time.Hour))
			require.False(t, shared[0].Shared)
			require.NoError(t, sharer.Ready(t.Context(), shared[0]))
			theirs := []string{"leases/slurm-alps-12", "services/a", "endpointslices/a.alps.12.c2"}
			assert.Equal(t, theirs, w.names())
			assert.Equal(t, "10.1.0.2 ready=true serving=true terminating=false", w.endpoint("a.alps.12.c2"))

			require.NoError(t, holder.Deregister(t.Context(), held), "a program that comes back to life")
			assert.Equal(t, theirs, w.names())
			require.NoError(t, sharer.Deregister(t.Context(), shared))
			assert.Empty(t, w.names())
		})
	}
}

func TestASharedServiceOfAllNodesIsLeftToTheNodesThatShareIt(t *testing.T) {
	w := newWorld(t)
	var first, second [2]*service.Registrar
	var held, shared [2][]*service.Registration
	over := false // step 0
	for i, node := range []string{"c1", "c2"} {
		for step, r := range map[string]**service.Registrar{"0": &first[i], "1": &second[i]} {
			*r = w.registrar(12)
			(*r).Step, (*r).Node = step, node
			(*r).Alive = func(_ context.Context, c service.Claim) (bool, error) { return c.Step != "0" || !over, nil }
			if i == 1 {
				(*r).Address = (*r).Address.Next()
			}
		}
		first[i].Wanted = func(service.Spec) bool { return true }
	}
	register := func(r *service.Registrar) []*service.Registration {
		regs, err := r.Register(t.Context(), w.specs("name=a,port=8888,host=all"))
		require.NoError(t, err)
		return regs
	}
	for i := range first {
		held[i] = register(first[i])
	}
	for i := range second {
		shared[i] = register(second[i])
		require.True(t, shared[i][0].Shared)
	}
	before := w.names()
	for i := range first {
		require.NoError(t, first[i].Deregister(t.Context(), held[i]))
		require.True(t, service.LeftBehind(held[i]))
	}
	assert.Equal(t, before, w.names())
	over = true
	for i := range second {
		require.NoError(t, second[i].Renew(t.Context(), shared[i], time.Hour))
		require.False(t, shared[i][0].Shared)
	}
	assert.Equal(t, before, w.names())
	assert.Equal(t, "1", w.stepOf("a.alps.12.c1"))
	assert.Equal(t, "1", w.stepOf("a.alps.12.c2"))
	for i := range second {
		require.NoError(t, second[i].Deregister(t.Context(), shared[i]))
	}
	assert.Empty(t, w.names())
}

// A step on another node took the service over, for as long as it seemed to be the only one
// that lived. What serves did not change meanwhile, so that no probe says anything new.
func TestAServiceThatIsTakenBackIsAsReadyAsTheJobAnswers(t *testing.T) {
	for answers, want := range map[bool]string{true: "10.1.0.1 ready=true serving=true terminating=false", false: "10.1.0.1 ready=false serving=false terminating=false"} {
		t.Run(fmt.Sprintf("answers=%v", answers), func(t *testing.T) {
			w := newWorld(t)
			holder, other := w.registrar(12), w.registrar(12)
			holder.Step, other.Step, other.Node, other.Address = "0", "1", "c2", holder.Address.Next()
			held, err := holder.Register(t.Context(), w.specs("a:8888"))
			require.NoError(t, err)
			require.NoError(t, holder.Answers(t.Context(), held[0], holder.Address, true))
			shared, err := other.Register(t.Context(), w.specs("a:8888"))
			require.NoError(t, err)
			other.Alive = func(context.Context, service.Claim) (bool, error) { return false, nil }
			require.NoError(t, other.Renew(t.Context(), shared, time.Hour))
			require.False(t, shared[0].Shared, "taken over")
			require.NoError(t, holder.Renew(t.Context(), held, time.Hour))
			require.True(t, held[0].Shared, "lost")
			if !answers {
				require.NoError(t, holder.Answers(t.Context(), held[0], holder.Address, false))
			}
			require.NoError(t, other.Deregister(t.Context(), shared))
			assert.Empty(t, w.names())

			require.NoError(t, holder.Renew(t.Context(), held, time.Hour))
			require.False(t, held[0].Shared, "taken back")
			assert.Equal(t, want, w.endpoint("a.alps.12.c1"))
			require.NoError(t, holder.Deregister(t.Context(), held))
			assert.Empty(t, w.names())
		})
	}
}
