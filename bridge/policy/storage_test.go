package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestWhichStorageAUserMayHave(t *testing.T) {
	all := []string{"jobdw", "persistentdw", "destroy_persistent", "copy_in", "copy_out", "container"}
	everybody := slurmconf.StorageRule{Users: []string{"*"}, Directives: all, Profiles: []string{"default", "small-*"}, Max: []string{"xfs=1TiB", "lustre=10TiB"}}
	owners := slurmconf.StorageRule{Users: []string{"alice"}, Directives: []string{"create_persistent"}, Profiles: []string{"*"}, Max: []string{"persistent=2TiB"}}
	rules := []slurmconf.StorageRule{everybody, owners}
	for name, test := range map[string]struct {
		user, directive string
		rules           []slurmconf.StorageRule
		refused         string
	}{
		"no rules":                       {"bob", "#DW create_persistent type=xfs capacity=9PiB name=a", nil, ""},
		"within the limit":               {"bob", "#DW jobdw type=xfs capacity=1TiB name=a", rules, ""},
		"another type has another limit": {"bob", "#DW jobdw type=lustre capacity=2TiB name=a", rules, ""},
		"a type without a limit":         {"bob", "#DW jobdw type=raw capacity=99TiB name=a", rules, ""},
		"too much":                       {"bob", "#DW jobdw type=xfs capacity=1100GiB name=a", rules, "capacity 1100GiB: user bob may have at most 1TiB of xfs on each node [#DW jobdw type=xfs capacity=1100GiB name=a]"},
		"no unit":                        {"bob", "#DW jobdw type=xfs capacity=1 name=a", rules, "capacity 1: write an integer and a unit, such as 50GB or 1TiB [#DW jobdw type=xfs capacity=1 name=a]"},
		"a profile of the rule":          {"bob", "#DW jobdw type=xfs capacity=1GB name=a profile=small-1", rules, ""},
		"another profile":                {"bob", "#DW jobdw type=xfs capacity=1GB name=a profile=fast", rules, "profile fast: user bob may use default, small-* [#DW jobdw type=xfs capacity=1GB name=a profile=fast]"},
		"what has no capacity":           {"bob", "#DW persistentdw name=a", rules, ""},
		"persistent storage of others":   {"bob", "#DW create_persistent type=xfs capacity=1GB name=a", rules, "user bob may not use create_persistent: no [[workflows.allow]] of slurmk8s.toml allows it [#DW create_persistent type=xfs capacity=1GB name=a]"},
		"who may create":                 {"alice", "#DW create_persistent type=lustre capacity=2TiB name=a", rules, ""},
		"and how much":                   {"alice", "#DW create_persistent type=lustre capacity=3TiB name=a", rules, "capacity 3TiB: user alice may have at most 2TiB of persistent storage [#DW create_persistent type=lustre capacity=3TiB name=a]"},
		"no rule is for the user":        {"bob", "#DW jobdw type=xfs capacity=1GB name=a", []slurmconf.StorageRule{owners}, "user bob may not have storage: no [[workflows.allow]] of slurmk8s.toml allows it [#DW jobdw type=xfs capacity=1GB name=a]"},
		"an operator":                    {"root", "#DW create_persistent type=xfs capacity=99TB name=a", []slurmconf.StorageRule{owners}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := slurmconf.Default().Workflows
			cfg.Allow, cfg.Operators = test.rules, []string{"root"}
			s, err := StorageFor(t.Context(), &cfg, &Subject{User: test.user})
			require.NoError(t, err)
			err = s.Admit([]string{test.directive})
			if test.refused == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.refused)
			var refused *job.Refused
			assert.ErrorAs(t, err, &refused)
		})
	}
}
