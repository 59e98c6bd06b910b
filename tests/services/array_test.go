package services

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	assert.Contains(t, reply[len(reply)-1], "belongs to job 12, which is running: in an array write %a, the task's index, into the name")
	assert.Equal(t, []string{"CODE=0"}, first.end())
}
