package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// lookStorage compares Slurm with storage that has servers.
func lookStorage(ctx context.Context, h *host, r *report) {
	client := h.silentClient(h.cfg.Kubernetes.Kubeconfig)
	if client == nil || !h.workflows() {
		return // lookController says it
	}
	survey, err := workflow.TakeSurvey(ctx, h.cfg, client, quiet())
	if err != nil {
		return // lookDWS and lookController say it
	}
	if survey == nil {
		r.ok("not used: DWS's storage has no servers of its own")
		return
	}
	judgeStorage(h.cfg, survey, r)
	r.good("%d rabbits, and Slurm's nodes are theirs", len(survey.Rabbits))
}

// leastOther is how long Setup, DataIn and PreRun of a job's storage may well take together.
const leastOther = 5 * time.Minute

func judgeStorage(cfg *slurmconf.Config, survey *workflow.Survey, r *report) {
	if len(survey.Unknown) > 0 {
		r.warn("add them to SystemConfiguration default/default, or set workflows.compute_names in slurmk8s.toml",
			"DWS does not know Slurm's %s: jobs with #DW lines fail there", few(survey.Unknown))
	}
	if len(survey.Missing) > 0 {
		r.warn("set workflows.compute_names in slurmk8s.toml, if Slurm has them by other names", "SystemConfiguration default/default has %s, which slurm.conf does not have", few(survey.Missing))
	}
	if len(survey.Featureless) > 0 {
		r.warn("add it to their NodeName lines in slurm.conf: slurmk8s setup --print-nodes", "%s of slurm.conf do not have feature %s (workflows.node_feature): no job with storage of its nodes runs there",
			few(survey.Featureless), cfg.Workflows.NodeFeature)
	}
	for _, room := range survey.Rabbits {
		if room.Fault != "" {
			r.warn("kubectl describe storage -n default "+room.Rabbit, "rabbit %s is %s: it gets no new storage", room.Rabbit, room.Fault)
		}
	}
	bb, err := slurmconf.ReadBurstBufferConf(cfg.SlurmConf)
	if err != nil {
		return // lookBurstBufferConf says it
	}
	t := cfg.Workflows.Timeouts
	if together := (t.Setup + t.DataIn + t.PreRun).Std(); together >= bb.OtherTimeout {
		r.fail("lower them in slurmk8s.toml, or raise OtherTimeout in burst_buffer.conf",
			"workflows.timeouts setup, data_in and pre_run are %s together, but Slurm kills slurm_bb_pre_run, which makes storage of nodes, after %s (OtherTimeout)", together, bb.OtherTimeout)
	} else if bb.OtherTimeout < leastOther {
		r.warn("raise OtherTimeout in burst_buffer.conf", "OtherTimeout is %s: Setup, DataIn and PreRun of storage of nodes have to end within it", bb.OtherTimeout)
	}
}

// few names at most four nodes.
func few(nodes []string) string {
	what := "nodes "
	if len(nodes) == 1 {
		what = "node "
	}
	if len(nodes) > 4 {
		return fmt.Sprintf("%s%s and %d more", what, strings.Join(nodes[:4], ", "), len(nodes)-4)
	}
	return what + strings.Join(nodes, ", ")
}
