package dwssim

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDirectives(t *testing.T) {
	const jobdw = "#DW jobdw type=xfs capacity=1TiB name=scratch"
	tests := []struct {
		name      string
		directive string
		refusal   string // empty means accepted
	}{
		{"a state and an action are enough", "#DW Setup action=complete", ""},
		{"all of the test driver's arguments", "#DW PreRun action=error message=a_b severity=Major", ""},
		{"the simulator's own arguments", "#DW PreRun action=complete delay=2s env=C:d:e,F:", ""},
		{"white space does not matter", "#DW   Setup\taction=wait  ", ""},
		{"a job's storage", jobdw, ""},
		{"a job's storage with all arguments", jobdw + " profile=fast requires=copy-offload,user-container-auth delay=10ms", ""},
		{"a capacity of decimal units", "#DW jobdw type=raw capacity=10GB name=ab", ""},
		{"copies", "#DW copy_in source=/home/a destination=$DW_JOB_scratch/", ""},
		{"a persistent instance is made", "#DW create_persistent type=lustre capacity=1TiB name=data", ""},
		{"a persistent instance whose profile has the capacity", "#DW create_persistent type=lustre name=data profile=mgt", ""},
		{"a persistent instance is used", "#DW persistentdw name=data requires=copy-offload", ""},
		{"a persistent instance is destroyed", "#DW destroy_persistent name=data", ""},
		{"a container", "#DW container name=box profile=mpi DW_JOB_foo_local_storage=scratch DW_PERSISTENT_in=data", ""},
		{"a value may hold an equal sign", "#DW copy_out source=/a=b destination=/c", ""},
		{"any action and severity", "#DW Setup action=explode severity=Huge", ""},
		{"no value where any will do", "#DW Setup action=", ""},

		{"an empty line", "", "missing '#DW' prefix in directive ''"},
		{"a state in another case", "#DW setup action=complete", "invalid directive '#DW setup action=complete'"},
		{"no action", "#DW Setup message=a", "missing required argument 'action'"},
		{"an argument of another command", jobdw + " action=wait", "unsupported argument 'action'"},
		{"a pool, which is for Slurm", jobdw + " pool=dws", "unsupported argument 'pool'"},
		{"an argument without equal sign", "#DW Setup action", "argument 'action' requires value"},
		{"the command once more", "#DW Setup action=wait command=x", "repeated argument 'command' in directive '#DW Setup action=wait command=x'"},
		{"an empty profile", jobdw + " profile=", "argument 'profile' invalid string ''"},
		{"a delay that is no duration", "#DW Setup action=complete delay=2", "argument 'delay' invalid string '2'"},
		{"a negative delay", "#DW Setup action=complete delay=-2s", "argument 'delay' invalid string '-2s'"},
		{"a variable without value", "#DW Setup action=complete env=A", "argument 'env' invalid string 'A'"},
		{"a variable that no shell could read", "#DW Setup action=complete env=A-B:c", "argument 'env' invalid string 'A-B:c'"},

		// What the real DWS said with the rules of NNF.
		{"missing capacity", "#DW jobdw type=xfs name=scratch", "missing required argument '^capacity$'"},
		{"missing type", "#DW jobdw capacity=1GB name=scratch", "missing required argument '^type$'"},
		{"missing name", "#DW jobdw type=xfs capacity=1GB", "missing required argument '^name$'"},
		{"unknown type", "#DW jobdw type=ext4 capacity=1GB name=scratch", "argument 'type' invalid string 'ext4'"},
		{"unit PiB", "#DW jobdw type=xfs capacity=1PiB name=scratch", "argument 'capacity' invalid string '1PiB'"},
		{"no unit", "#DW jobdw type=xfs capacity=1000000 name=scratch", "argument 'capacity' invalid string '1000000'"},
		{"fraction", "#DW jobdw type=xfs capacity=1.5TB name=scratch", "argument 'capacity' invalid string '1.5TB'"},
		{"lower case unit", "#DW jobdw type=xfs capacity=1tb name=scratch", "argument 'capacity' invalid string '1tb'"},
		{"name with underscore", "#DW jobdw type=xfs capacity=1GB name=my_scratch", "argument 'name' invalid string 'my_scratch'"},
		{"name upper case", "#DW jobdw type=xfs capacity=1GB name=Scratch", "argument 'name' invalid string 'Scratch'"},
		{"name of one letter", "#DW jobdw type=xfs capacity=1GB name=s", "argument 'name' invalid string 's'"},
		{"profile pattern", "#DW jobdw type=xfs capacity=1GB name=scratch profile=My_Profile", "argument 'profile' invalid string 'My_Profile'"},
		{"unknown argument", "#DW jobdw type=xfs capacity=1GB name=scratch colour=red", "unsupported argument 'colour'"},
		{"argument without value", "#DW jobdw type=xfs capacity= name=scratch", "argument 'capacity' invalid string ''"},
		{"argument without equals", "#DW jobdw type=xfs capacity name=scratch", "argument 'capacity' requires value"},
		{"repeated argument", "#DW jobdw type=xfs type=gfs2 capacity=1GB name=scratch",
			"repeated argument 'type' in directive '#DW jobdw type=xfs type=gfs2 capacity=1GB name=scratch'"},
		{"unknown command", "#DW jobdb type=xfs capacity=1GB name=scratch", "invalid directive '#DW jobdb type=xfs capacity=1GB name=scratch'"},
		{"no prefix", "jobdw type=xfs capacity=1GB name=scratch", "missing '#DW' prefix in directive 'jobdw type=xfs capacity=1GB name=scratch'"},
		{"other prefix", "#BB jobdw type=xfs capacity=1GB name=scratch", "missing '#DW' prefix in directive '#BB jobdw type=xfs capacity=1GB name=scratch'"},
		{"requires unknown", jobdw + " requires=magic", "argument 'requires' invalid string 'magic' in list 'magic'"},
		{"requires one unknown", jobdw + " requires=copy-offload,magic", "argument 'requires' invalid string 'magic' in list 'copy-offload,magic'"},
		{"requires repeated", jobdw + " requires=copy-offload,copy-offload",
			"argument 'requires' word 'copy-offload' repeated in list 'copy-offload,copy-offload'"},
		{"copy_in without destination", "#DW copy_in source=/lus/global/x", "missing required argument '^destination$'"},
		{"destroy with capacity", "#DW destroy_persistent name=p0 capacity=1GB", "unsupported argument 'capacity'"},
		{"persistentdw with type", "#DW persistentdw name=pxfs type=xfs", "unsupported argument 'type'"},
		{"container without profile", "#DW container name=box", "missing required argument '^profile$'"},
		{"container storage word bad", "#DW container name=box profile=example-success FOO=scratch", "unsupported argument 'FOO'"},
		{"container storage word upper", "#DW container name=box profile=example-success DW_JOB_FOO=scratch", "unsupported argument 'DW_JOB_FOO'"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := checkDirectives([]string{"#DW Proposal action=complete", test.directive})
			if test.refusal == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.refusal)
		})
	}
}

func TestNamesAreUniqueWithinACommand(t *testing.T) {
	const job, made = "#DW jobdw type=xfs capacity=1GB name=scratch", "#DW create_persistent type=xfs capacity=1GB name=scratch"
	tests := []struct{ name, second, refusal string }{
		{"two storages of a job", "#DW jobdw type=gfs2 capacity=1GB name=scratch", "value 'scratch' must be unique within 'jobdw_name'"},
		{"a storage of a job and an instance", made, ""},
		{"another name", "#DW jobdw type=gfs2 capacity=1GB name=other", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := checkDirectives([]string{job, test.second})
			if test.refusal == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.refusal)
		})
	}
	_, err := checkDirectives([]string{made, made})
	require.EqualError(t, err, "value 'scratch' must be unique within 'create_persistent_name'")
}

// What the real DWS registered for directives of NNF.
func TestADirectiveIsWatchedInTheStatesOfItsRule(t *testing.T) {
	tests := []struct {
		directive string
		states    []string
	}{
		{"#DW jobdw type=gfs2 capacity=50GB name=scratch", []string{Proposal, Setup, PreRun, PostRun, Teardown}},
		{"#DW persistentdw name=pxfs", []string{Proposal, Setup, PreRun, PostRun, Teardown}},
		{"#DW container name=box profile=example-success", []string{Proposal, Setup, PreRun, PostRun, Teardown}},
		{"#DW create_persistent type=xfs capacity=100GiB name=pxfs", []string{Proposal, Setup, Teardown}},
		{"#DW destroy_persistent name=pxfs", []string{Proposal, Teardown}},
		{"#DW copy_in source=/lus/global/in destination=$DW_JOB_scratch/in", []string{Proposal, DataIn, Teardown}},
		{"#DW copy_out source=$DW_JOB_scratch/out destination=/lus/global/out", []string{Proposal, DataOut, Teardown}},
	}
	for _, test := range tests {
		t.Run(test.directive, func(t *testing.T) {
			var states []string
			for _, driver := range newWorkflow(t, test.directive).Status.Drivers {
				assert.Equal(t, "nnf", driver.DriverID)
				states = append(states, driver.WatchState)
			}
			assert.Equal(t, test.states, states)
		})
	}
}

func TestABlankDirectiveIsAnErrorOfItsOwn(t *testing.T) {
	for _, blank := range []string{"#DW", "#DW ", " #DW\t"} {
		_, err := checkDirectives([]string{blank})
		assert.ErrorIs(t, err, errBlankDirective, "%q", blank)
	}
}
