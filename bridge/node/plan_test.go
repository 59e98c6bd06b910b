package node

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func config(change func(*slurmconf.NodeSettings)) *slurmconf.NodeSettings {
	cfg := slurmconf.Default().Nodes
	change(&cfg)
	return &cfg
}

func TestWhoReclaims(t *testing.T) {
	reclaim := func(mode string) func(*slurmconf.NodeSettings) {
		return func(c *slurmconf.NodeSettings) { c.Reclaim = mode }
	}
	lists := func(c *slurmconf.NodeSettings) {
		c.ReclaimPartitions, c.ReclaimFeatures = []string{"hpc"}, []string{"bare", "metal"}
	}
	tests := []struct {
		name string
		cfg  func(*slurmconf.NodeSettings)
		ask  Ask
		want Mode
		err  string
	}{
		{"nobody by default", reclaim("none"), Ask{Partition: "hpc"}, Keep, ""},
		{"all", reclaim("all"), Ask{}, Reclaim, ""},
		{"all but those that keep", reclaim("all"), Ask{Nodes: "keep"}, Keep, ""},
		{"all but those that lend", reclaim("all"), Ask{Nodes: "lend"}, Lend, ""},
		{"on request, not asked", reclaim("request"), Ask{}, Keep, ""},
		{"on request, asked", reclaim("request"), Ask{Nodes: "reclaim"}, Reclaim, ""},
		{"a partition", lists, Ask{Partition: "hpc"}, Reclaim, ""},
		{"another partition", lists, Ask{Partition: "debug"}, Keep, ""},
		{"a partition's job that keeps", lists, Ask{Partition: "hpc", Nodes: "keep"}, Keep, ""},
		{"a partition's job that says what is done anyway", lists, Ask{Partition: "hpc", Nodes: "reclaim"}, Reclaim, ""},
		{"a feature", lists, Ask{Constraints: "bare"}, Reclaim, ""},
		{"a feature among others", lists, Ask{Constraints: "big&(metal*2|x)"}, Reclaim, ""},
		{"part of a feature's name", lists, Ask{Constraints: "bare2&nonmetal"}, Keep, ""},
		{"not allowed to ask", reclaim("none"), Ask{Nodes: "reclaim"}, "", `--k8s-nodes=reclaim: jobs may not ask for that on this cluster (nodes.reclaim = "none")`},
		{"not allowed to lend", lists, Ask{Nodes: "lend"}, "", "--k8s-nodes=lend: jobs may not ask for that"},
		{"no such word", reclaim("all"), Ask{Nodes: "Reclaim"}, "", "--k8s-nodes=Reclaim: must be one of reclaim, keep, lend"},
		{"a long word is not repeated as a whole", reclaim("all"), Ask{Nodes: strings.Repeat("x", 10000)}, "", strings.Repeat("x", 40) + "...: must be one of"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := PlanFor(config(tt.cfg), tt.ask)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				assert.Less(t, len(err.Error()), 200)
				var refused *job.Refused
				require.ErrorAs(t, err, &refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, plan.Mode)
		})
	}
}

func TestAJobsOwnTerms(t *testing.T) {
	cfg := config(func(c *slurmconf.NodeSettings) {
		c.Reclaim = "all"
		c.EvictGrace, c.MinEvictGrace, c.MaxEvictGrace = slurmconf.Duration(30*time.Second), slurmconf.Duration(10*time.Second), slurmconf.Duration(time.Minute)
		c.EvictTimeout, c.MaxEvictTimeout = slurmconf.Duration(20*time.Second), slurmconf.Duration(2*time.Minute)
	})
	tests := []struct {
		name string
		ask  Ask
		want Terms
		err  string
	}{
		{"none", Ask{}, Terms{30 * time.Second, 20 * time.Second, "fail"}, ""},
		{"both", Ask{Grace: "45", Timeout: "120:ignore"}, Terms{45 * time.Second, 2 * time.Minute, "ignore"}, ""},
		{"a time without a policy", Ask{Timeout: "0"}, Terms{30 * time.Second, 0, "fail"}, ""},
		{"the policy that is in force anyway", Ask{Timeout: "5:fail"}, Terms{30 * time.Second, 5 * time.Second, "fail"}, ""},
		{"grace below the least", Ask{Grace: "9"}, Terms{}, "--k8s-evict-grace=9: this cluster allows 10 to 60 seconds"},
		{"grace above the most", Ask{Grace: "61"}, Terms{}, "this cluster allows 10 to 60 seconds"},
		{"time above the most", Ask{Timeout: "121"}, Terms{}, "--k8s-evict-timeout=121: this cluster allows 0 to 120 seconds"},
		{"a policy that is not allowed", Ask{Timeout: "5:delete"}, Terms{}, "jobs may not ask for delete on this cluster (nodes.job_policies)"},
		{"no such policy", Ask{Timeout: "5:kill"}, Terms{}, "--k8s-evict-timeout=5:kill: kill must be one of delete, fail, ignore"},
		{"an empty policy", Ask{Timeout: "5:"}, Terms{}, " must be one of delete"},
		{"a unit", Ask{Grace: "30s"}, Terms{}, "--k8s-evict-grace=30s: 30s is not a number of seconds"},
		{"a sign", Ask{Grace: "-1"}, Terms{}, "not a number of seconds"},
		{"more than fits", Ask{Timeout: "99999999999999999999"}, Terms{}, "not a number of seconds"},
		{"only a policy", Ask{Timeout: ":fail"}, Terms{}, "not a number of seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := PlanFor(cfg, tt.ask)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, plan.Terms)
		})
	}
}

func TestHoldersAreReadAsTheyAreWritten(t *testing.T) {
	h := Claim{Cluster: "alps", JobID: 12, Restarts: 3, Mode: Lend}
	assert.Equal(t, "alps/12/3=lend", h.String())
	got, ok := parseClaim(h.String())
	assert.True(t, ok)
	assert.Equal(t, h, got)
	for _, text := range []string{"", "alps/12/3", "alps/12/3=keep", "/12/3=lend", "alps/0/3=lend", "alps/x/3=lend", "alps/12=lend", "alps/12/-1=lend", "a/b/12/3=lend"} {
		_, ok := parseClaim(text)
		assert.False(t, ok, text)
	}
}

func FuzzPlanFor(f *testing.F) {
	f.Add("reclaim", "30", "60:delete", "a&b|[c]")
	cfg := slurmconf.Default().Nodes
	cfg.Reclaim = slurmconf.ReclaimRequest
	f.Fuzz(func(t *testing.T, nodes, grace, timeout, constraints string) {
		plan, err := PlanFor(&cfg, Ask{Nodes: nodes, Grace: grace, Timeout: timeout, Constraints: constraints})
		if err != nil {
			assert.Less(t, len(err.Error()), 400)
			return
		}
		assert.Contains(t, []Mode{Reclaim, Keep, Lend}, plan.Mode)
		assert.LessOrEqual(t, plan.Terms.Grace, cfg.MaxEvictGrace.Std())
		assert.LessOrEqual(t, plan.Terms.Timeout, cfg.MaxEvictTimeout.Std())
	})
}
