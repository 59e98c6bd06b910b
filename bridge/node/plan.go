package node

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Ask is what a job asks for. The first three are the values of its options, as the user
// wrote them; "" if not given.
type Ask struct {
	Nodes, Grace, Timeout string
	Partition             string
	Constraints           string // as Slurm has them: "big&(fast|new*2)"
}

// Plan is what is done for a job.
type Plan struct {
	Mode  Mode
	Terms Terms
}

// PlanFor decides what is done for a job, by the administrator's configuration.
func PlanFor(cfg *slurmconf.NodeSettings, ask Ask) (Plan, error) {
	plan := Plan{Mode: Keep, Terms: Terms{Grace: cfg.EvictGrace.Std(), Timeout: cfg.EvictTimeout.Std(), Policy: cfg.EvictPolicy}}
	if cfg.Reclaim == slurmconf.ReclaimAll || slices.Contains(cfg.ReclaimPartitions, ask.Partition) ||
		slices.ContainsFunc(features(ask.Constraints), func(f string) bool { return slices.Contains(cfg.ReclaimFeatures, f) }) {
		plan.Mode = Reclaim
	}
	switch wish := Mode(ask.Nodes); {
	case wish == "" || wish == Keep || wish == plan.Mode:
		if wish != "" {
			plan.Mode = wish
		}
	case wish != Reclaim && wish != Lend:
		return plan, job.Refusef("--k8s-nodes=%s: must be one of reclaim, keep, lend", shown(ask.Nodes))
	case cfg.Reclaim == slurmconf.ReclaimNone:
		return plan, job.Refusef("--k8s-nodes=%s: jobs may not ask for that on this cluster (nodes.reclaim = \"none\")", wish)
	default:
		plan.Mode = wish
	}
	if ask.Grace != "" {
		grace, err := seconds("--k8s-evict-grace", ask.Grace, ask.Grace, cfg.MinEvictGrace.Std(), cfg.MaxEvictGrace.Std())
		if err != nil {
			return plan, err
		}
		plan.Terms.Grace = grace
	}
	if ask.Timeout != "" {
		number, policy, hasPolicy := strings.Cut(ask.Timeout, ":")
		timeout, err := seconds("--k8s-evict-timeout", ask.Timeout, number, 0, cfg.MaxEvictTimeout.Std())
		if err != nil {
			return plan, err
		}
		plan.Terms.Timeout = timeout
		if hasPolicy {
			if !slices.Contains([]string{slurmconf.EvictDelete, slurmconf.EvictFail, slurmconf.EvictIgnore}, policy) {
				return plan, job.Refusef("--k8s-evict-timeout=%s: %s must be one of delete, fail, ignore", shown(ask.Timeout), shown(policy))
			}
			if policy != cfg.EvictPolicy && !slices.Contains(cfg.JobPolicies, policy) {
				return plan, job.Refusef("--k8s-evict-timeout=%s: jobs may not ask for %s on this cluster (nodes.job_policies)", ask.Timeout, policy)
			}
			plan.Terms.Policy = policy
		}
	}
	return plan, nil
}

// seconds reads a number of seconds within the administrator's bounds.
func seconds(option, value, number string, least, most time.Duration) (time.Duration, error) {
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, job.Refusef("%s=%s: %s is not a number of seconds", option, shown(value), shown(number))
	}
	d := time.Duration(n) * time.Second
	if d < least || d > most {
		return 0, job.Refusef("%s=%s: this cluster allows %g to %g seconds", option, shown(value), least.Seconds(), most.Seconds())
	}
	return d, nil
}

// features are the names in a job's constraints, whatever joins them.
func features(constraints string) []string {
	return strings.FieldsFunc(constraints, func(r rune) bool { return strings.ContainsRune("&|,*()[] ", r) })
}

// shown is a user's text as far as an error repeats it.
func shown(text string) string {
	const most = 40
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
