package service

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
)

func TestNamesOfWhatRunsManyTimes(t *testing.T) {
	task := Instance{Job: 25, Array: 22, Task: 3, User: "Ann.Lee"}
	alone := Instance{Job: 25, User: "bob"}
	for _, tt := range []struct {
		name       string
		in         Instance
		spec, want string // "!": the error
	}{
		{"no pattern", task, "worker:1", "worker"},
		{"the task of an array", task, "worker-%a:1", "worker-3"},
		{"padded, as in Slurm's file names", task, "worker-%4a:1", "worker-0003"},
		{"array and task", task, "name=w-%A-%a,port=1", "w-22-3"},
		{"the job", task, "w%j:1", "w25"},
		{"the user, as Kubernetes can have it", task, "%u-jupyter:1", "ann-lee-5a9a93ab-jupyter"},
		{"a job in no array is its own", alone, "w-%A:1", "w-25"},
		{"a task where there is none", alone, "w-%a:1", "!the job is not in an array (sbatch --array): use %j"},
		{"one for the array", task, "name=w-%A,port=1,host=array", "w-22"},
		{"one for the array where there is none", alone, "name=w,port=1,host=array", "!host=array: the job is not in an array (sbatch --array)"},
		{"outside of Slurm", Instance{}, "w-%j:1", "!stands for nothing outside of a Slurm job"},
		{"a user whose name begins with a digit", Instance{Job: 1, User: "1st"}, "%u:1", `!name "1st"`},
		{"too long once expanded", Instance{Job: 4294967295, User: "a-name-that-is-long-but-a-label-of-its-own"}, "%u-and-the-job-%j:1", "!at most 63"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			specs, err := Parse(tt.spec, nil)
			require.NoError(t, err)
			expanded, err := Expand(specs, tt.in)
			if tt.want[0] == '!' {
				var refused *job.Refused
				require.ErrorAs(t, err, &refused)
				assert.ErrorContains(t, err, tt.want[1:])
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, expanded[0].Name)
		})
	}
}

func TestPatternsThatNoNameCanHave(t *testing.T) {
	for text, want := range map[string]string{
		"w-%x:1": "the patterns in a name are %a, %A, %j and %u", "w%%:1": "the patterns in a name", "w%:1": "the patterns in a name",
		"%a:1": "a letter first", "W-%a:1": `name "W-1"`, "w-%99a:1": "a width of at most 10", "w-%3u:1": "must be a number's pattern",
		"w-%00000000000000000000003a:1": "a width of at most 10", "a.%j:1": "at most 63 lower-case",
	} {
		_, err := Parse(text, nil)
		assert.ErrorContains(t, err, want, text)
	}
}

func TestArraysWithSeveralTasksAtOnce(t *testing.T) {
	for array, want := range map[string]bool{
		"": false, "0": false, "7%4": false, "0-3": true, "1,5": true, "3,3": false, "0-3%1": false, "0-3%2": true, "2-2": false,
		"1-9:4": true, "1-3:4": false, "[1-4]%1": false, "[1-4]": true, "5,1-1": true,
	} {
		assert.Equal(t, want, severalTasks(array), array)
	}
}

func TestTasksThatRunAtOnce(t *testing.T) {
	for array, want := range map[string]int{"0": 1, "0-3": 4, "0-299%256": 256, "[0-299]": 300, "0-9:3": 4, "1,5-6": 3, "0-3%9": 4, "0-3%0": 4} {
		assert.Equal(t, want, tasksAtOnce(array), array)
	}
}

func TestAnArrayIsJudgedAtThePrompt(t *testing.T) {
	for _, tt := range []struct{ spec, array, want string }{
		{"w-%a:1", "0-3", ""}, {"w:1", "0-3%1", ""}, {"w:1", "", ""}, {"name=w,port=1,host=array", "0-3", ""},
		{"w:1", "0-3", "the tasks of --array=0-3 cannot all have the service w: write %a, the task's index, into the name, " +
			"such as w-%a, or share one service with host=array"},
		{"name=w,port=1,host=array", "0-999%256", ""}, {"w-%a:1", "0-999", ""},
		{"name=w,port=1,host=array", "0-256", "host=array: at most 256 tasks that run at once can share the service w: limit them with --array=...%256, " +
			"or write %a, the task's index, into the name"},
		{"w-%a:1", "", "name \"w-%a\": %a is the index of an array's task, and the job is not in an array (sbatch --array): use %j"},
		{"name=w,port=1,host=array", "", "host=array: the job is not in an array (sbatch --array)"},
	} {
		specs, err := Parse(tt.spec, nil)
		require.NoError(t, err)
		if err = CheckArray(specs, tt.array); tt.want == "" {
			assert.NoError(t, err, tt)
		} else {
			assert.EqualError(t, err, "--k8s-register: "+tt.want)
		}
	}
}

func TestATaskOfAnArrayIsToldHowToGetAName(t *testing.T) {
	taken := &ConflictError{Object: "service a/worker", Claim: &Claim{Job: job.Job{ID: 25}}, InArray: true}
	assert.EqualError(t, taken, "service a/worker belongs to job 25, which is running: in an array write %a, the task's index, into the name, "+
		"or share one service with host=array")
}
