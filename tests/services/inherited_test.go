package services

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// hangs lets the API server answer nothing until the function that it returns is called.
func (w *world) hangs() (resume func()) {
	w.t.Helper()
	require.NoError(w.t, w.server.PauseAPIServer())
	resume = sync.OnceFunc(func() { require.NoError(w.t, w.server.ResumeAPIServer()) })
	w.t.Cleanup(resume)
	return resume
}

// A deadline that no step of these tests may need: it would be waited for.
const never = "DEADLINE_MS=600000"

func TestAnOutageFailsNoStepWhoseServiceItsNodeHas(t *testing.T) {
	for name, option := range map[string]string{
		"a plain service":       "a:8888",
		"one for each node":     "name=a,port=8888,host=all",
		"a chosen port":         "a:8888:auto",
		"several services":      "a:8888;name=b,port=9999,ready=none,endpoints=both",
		"a Service of pods":     "name=a,port=8888,type=internal,app=x",
		"a namespace by a rule": "name=a,port=8888,label=k=v",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.newNode(site{})
			batch := n.start(n.fields("K8S_REGISTER=" + option))
			registered := batch.reply()
			require.Contains(t, registered, "CODE=0")
			before := w.names()

			resume := w.hangs()
			for _, inherited := range []string{"", "1"} { // given again, and not given at all
				srun := n.start(n.fields("STEP_ID=0", "K8S_REGISTER="+option, "INHERITED="+inherited, never))
				assert.Equal(t, registered, srun.reply())
				assert.Equal(t, []string{"CODE=0"}, srun.end())
			}
			resume()
			assert.Equal(t, before, w.names())
			assert.Equal(t, []string{"CODE=0"}, batch.end())
			assert.Empty(t, w.names())
			assert.False(t, n.marked(12))
		})
	}
}

// What is no more than begun is not there yet: the second step asks for itself.
func TestAStepWhoseRegistrationHangsHoldsNothing(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	resume := w.hangs()
	first := n.start(n.fields("STEP_ID=0", "K8S_REGISTER=a:8888", never))
	eventually.True(t, "begun", func() bool { return n.marked(12) })
	second := n.start(n.fields("STEP_ID=1", "K8S_REGISTER=a:8888", "DEADLINE_MS=1000"))
	assert.Equal(t, "CODE=3", second.reply()[0])
	resume()
	assert.Contains(t, first.reply(), "CODE=0")
	assert.Equal(t, []string{"CODE=0"}, first.end())
}

func TestAnOutageFailsNoStepThatInheritsFromAnotherNode(t *testing.T) {
	for _, host := range []string{"batch", "all"} {
		t.Run("host="+host, func(t *testing.T) {
			w := newWorld(t)
			c1, c2 := w.newNode(site{}), w.newNode(site{})
			option := "K8S_REGISTER=name=a,port=8888,ready=none,host=" + host
			batch := c1.start(c1.fields(option))
			require.Contains(t, batch.reply(), "CODE=0")
			before := w.names()

			resume := w.hangs()
			on2 := func(more ...string) []string {
				return c2.fields(append([]string{"STEP_ID=0", "NODE=c2", "NODELIST=c[1-2]", "DEADLINE_MS=1500", option}, more...)...)
			}
			asked := c2.start(on2())
			assert.Equal(t, "CODE=3", asked.reply()[0], "a new request fails")
			asked.gone()
			srun := c2.start(on2("INHERITED=1"))
			assert.Contains(t, srun.reply(), "CODE=0")
			assert.Contains(t, c2.log(), "the step starts, but the job's registration of "+w.namespace+"/a cannot be looked up now: ")
			resume()
			if host == "all" {
				eventually.True(t, "this node's endpoint", func() bool { return w.isReady("a.alps.12.c2") })
			}
			assert.Equal(t, []string{"CODE=0"}, srun.end())
			assert.Equal(t, before, w.names(), "the script's")
			assert.Equal(t, []string{"CODE=0"}, batch.end())
			assert.Empty(t, w.names())
			assert.False(t, c2.marked(12))
		})
	}
}

// The script's service goes while nobody can be asked, and then the step has it.
func TestAStepThatStartedInAnOutageTakesOverWhatItInherits(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	resume := w.hangs()
	srun := n.start(n.fields("STEP_ID=0", "K8S_REGISTER=name=a,port=8888,ready=none", "INHERITED=1", "DEADLINE_MS=1500"))
	require.Contains(t, srun.reply(), "CODE=0")
	resume()
	eventually.True(t, "registered", func() bool { return w.isReady("a.alps.12.c1") })
	w.tells("a", "Normal Registered: by Slurm job 12 of cluster alps on node c1 (user ID 0)", "Normal Ready: it answers at "+n.address.String()+" (node c1)")
	assert.Equal(t, []string{"CODE=0"}, srun.end())
	assert.Empty(t, w.names())
}

// A name that is another job's is no outage.
func TestAnInheritedNameThatIsTakenIsRefused(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	w.create(service.Services, map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "a"},
		"spec": map[string]any{"ports": []any{map[string]any{"port": int64(80)}}}})
	srun := n.start(n.fields("STEP_ID=0", "K8S_REGISTER=a:8888", "INHERITED=1"))
	assert.Equal(t, []string{"CODE=2", "MESSAGE=service " + n.namespace + "/a exists and was not made by slurmk8s: choose another name"}, srun.reply())
}

func TestAnOutageFailsNoStepThatInheritsAnImport(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{})
	w.create(service.Services, map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "db"},
		"spec": map[string]any{"ports": []any{map[string]any{"port": int64(3306)}}}})
	batch := n.start(n.fields("K8S_IMPORT=db:3306"))
	answer := batch.reply()
	require.Contains(t, answer, "CODE=0")
	require.Contains(t, answer, "SETENV_K8S_IMPORTED=db:3306")
	require.Contains(t, strings.Join(answer, "\n"), "SETENV_DB_SERVICE_HOST=")

	w.hangs()
	srun := func(more ...string) []string {
		return n.start(n.fields(append([]string{"STEP_ID=0", "K8S_IMPORT=db:3306", "DEADLINE_MS=1000"}, more...)...)).reply()
	}
	assert.Equal(t, []string{"CODE=0", "OVER=1"}, srun("INHERITED=1", "IMPORTED=db:3306"))
	assert.Equal(t, "CODE=3", srun("INHERITED=1")[0], "srun --export=NONE has no variables")
	assert.Equal(t, "CODE=3", srun("INHERITED=1", "IMPORTED=other:3306")[0])
	assert.Equal(t, "CODE=3", srun("IMPORTED=db:3306")[0], "a new request")
}
