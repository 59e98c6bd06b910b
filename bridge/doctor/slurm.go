package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func lookConfig(_ context.Context, h *host, r *report) {
	if h.cfgErr != nil {
		r.fail("fix it; the shipped slurmk8s.toml describes every key. Nothing else was checked", "%v", h.cfgErr)
		return
	}
	if h.valuesErr != nil {
		r.fail("set slurm_conf in slurmk8s.toml to the path that Slurm uses", "%v", h.valuesErr)
	}
	for _, told := range slurmconf.Retired(h.o.ConfigPath) {
		r.warn("remove the line from "+h.o.ConfigPath, "%s", told)
	}
	r.good("%s, cluster %s", h.o.ConfigPath, h.cfg.Cluster)
}

// lookSlurmVersion knows which releases slurmk8s was made for, and which of Slurm's
// own defects meet it.
func lookSlurmVersion(ctx context.Context, h *host, r *report) {
	v, err := h.commands.Version(ctx)
	if err != nil {
		r.fail("set slurm_bin_dir in slurmk8s.toml to the directory of scontrol", "%v", err)
		return
	}
	h.version = v
	switch {
	case !v.AtLeast(22, 5, 0):
		r.fail("slurmk8s needs Slurm 22.05 or later", "Slurm %s", v)
	case !v.AtLeast(23, 2, 7) && h.workflows() && h.is([]Role{Controller}):
		r.warn("restart slurmctld when jobs stay PENDING (BurstBufferResources) and none is in stage-in; fixed in Slurm 23.02.7",
			"Slurm %s starts no more stage-ins after 128 stage-ins were cancelled", v)
	}
	r.good("Slurm %s", v)
}

func lookBurstBufferConf(_ context.Context, h *host, r *report) {
	if !h.workflows() {
		r.ok("not used: slurm.conf has no BurstBufferType")
		return
	}
	if kind := h.slurm.BurstBufferType; kind != "burst_buffer/lua" {
		if kind == "" {
			kind = "not set"
		}
		r.fail("set BurstBufferType=burst_buffer/lua in "+h.cfg.SlurmConf+" and restart slurmctld", "BurstBufferType is %s: Slurm does not run burst_buffer.lua", kind)
	}
	bb, err := slurmconf.ReadBurstBufferConf(h.cfg.SlurmConf)
	if err != nil {
		r.fail("add \"Directive=DW\" and \"Flags=TeardownFailure\" to it, or run slurmk8s setup --write-slurm-conf", "%v", err)
		return
	}
	if !bb.HasFlag("TeardownFailure") {
		r.fail("add Flags=TeardownFailure to "+bb.Path+" and restart slurmctld", "Flags has no TeardownFailure: a job whose stage-in or stage-out fails is held and keeps its storage")
	}
	if bb.Directive != h.cfg.Workflows.Directive {
		r.fail("make both equal, or remove workflows.directive from slurmk8s.toml", "Directive is %s for Slurm (%s) but %s for slurmk8s (workflows.directive)",
			bb.Directive, bb.Path, h.cfg.Workflows.Directive)
	}
	r.good("%s: Directive=%s, Flags=%s", bb.Path, bb.Directive, strings.Join(bb.Flags, ","))
}

// lookBurstBufferTimeouts wants each wait of ours to end before Slurm kills the hook.
func lookBurstBufferTimeouts(_ context.Context, h *host, r *report) {
	if !h.workflows() {
		return
	}
	bb, err := slurmconf.ReadBurstBufferConf(h.cfg.SlurmConf)
	if err != nil {
		return // lookBurstBufferConf says it
	}
	t := h.cfg.Workflows.Timeouts
	for _, w := range []struct {
		ours  string
		limit time.Duration
		slurm string
		until time.Duration
	}{
		{"proposal and setup", (t.Proposal + t.Setup).Std(), "OtherTimeout", bb.OtherTimeout},
		{"data_in", t.DataIn.Std(), "StageInTimeout", bb.StageInTimeout},
		{"pre_run", t.PreRun.Std(), "OtherTimeout", bb.OtherTimeout},
		{"post_run", t.PostRun.Std(), "OtherTimeout", bb.OtherTimeout},
		{"data_out", t.DataOut.Std(), "StageOutTimeout", bb.StageOutTimeout},
		{"teardown", t.Teardown.Std(), "OtherTimeout", bb.OtherTimeout},
	} {
		if w.limit >= w.until {
			r.fail("lower it in slurmk8s.toml, or raise "+w.slurm+" in burst_buffer.conf",
				"workflows.timeouts %s is %s, but Slurm kills the hook after %s (%s)", w.ours, w.limit, w.until, w.slurm)
		}
	}
	const least = 30 * time.Second
	if bb.OtherTimeout < least {
		r.warn("raise OtherTimeout in burst_buffer.conf; Slurm's default is 300", "OtherTimeout is %s: Slurm kills a Teardown that takes longer, and reconcile has to finish it", bb.OtherTimeout)
	}
	r.good("OtherTimeout %s, StageInTimeout %s, StageOutTimeout %s", bb.OtherTimeout, bb.StageInTimeout, bb.StageOutTimeout)
}

// prologFlags are those of slurm.conf, in lower case.
func (h *host) prologFlags() map[string]bool {
	flags := map[string]bool{}
	for _, flag := range strings.Split(strings.ToLower(h.values["prologflags"]), ",") {
		flags[strings.TrimSpace(flag)] = true
	}
	return flags
}

func lookPrologFlags(_ context.Context, h *host, r *report) {
	if !h.takesNode() {
		r.ok("not needed: no job reclaims this node in a prolog")
		return
	}
	flags := h.prologFlags()
	if !flags["alloc"] && !flags["contain"] && !flags["x11"] && !flags["runinjob"] {
		r.fail("add PrologFlags=Alloc to "+h.cfg.SlurmConf+" and run scontrol reconfigure",
			"PrologFlags has no Alloc: nodes are reclaimed only when their first step starts, one after another")
	}
	if !flags["deferbatch"] {
		r.warn("add DeferBatch to PrologFlags in "+h.cfg.SlurmConf+" if batch scripts use other nodes at once",
			"PrologFlags has no DeferBatch: a batch script may start before the job's other nodes are free of pods")
	}
	r.good("PrologFlags=%s", h.values["prologflags"])
}

// lookPrologTimeouts wants ours < PrologEpilogTimeout < BatchStartTimeout.
func lookPrologTimeouts(_ context.Context, h *host, r *report) {
	prologKey, epilogKey := "PrologEpilogTimeout", "PrologEpilogTimeout"
	if h.values["prologtimeout"] != "" { // since 25.05 each has one of its own
		prologKey = "PrologTimeout"
	}
	if h.values["epilogtimeout"] != "" {
		epilogKey = "EpilogTimeout"
	}
	if limit, there := h.seconds(epilogKey); there && h.plugin != nil {
		if ours := pluginMilliseconds(h.plugin, "epilog_timeout_ms", 10*time.Second); ours >= limit {
			r.fail("raise "+epilogKey+" in slurm.conf, or lower epilog_timeout_ms in plugstack.conf",
				"the epilog may take %s (epilog_timeout_ms), but Slurm kills it after %s (%s) and drains the node", ours, limit, epilogKey)
		}
	}
	limit, there := h.seconds(prologKey)
	if !h.takesNode() {
		r.good("%s", timeoutText(prologKey, limit, there))
		return
	}
	n := &h.cfg.Nodes
	usual := hook.PrologLimit(n, node.Terms{Timeout: n.EvictTimeout.Std(), Grace: n.EvictGrace.Std()})
	most := hook.PrologLimit(n, node.Terms{Timeout: n.MaxEvictTimeout.Std(), Grace: n.MaxEvictGrace.Std()}) // when a job asks for it
	if h.plugin != nil {
		ours := pluginMilliseconds(h.plugin, "prolog_timeout_ms", 20*time.Minute)
		const lower = "raise prolog_timeout_ms in plugstack.conf, or lower %s in [nodes]"
		if usual > ours {
			r.fail(fmt.Sprintf(lower, "evict_timeout and evict_grace"),
				"freeing a node may take %s (api_timeout, evict_timeout, evict_grace, units_timeout), but the plugin's prolog gives up after %s (prolog_timeout_ms)", usual, ours)
		} else if most > ours {
			r.warn(fmt.Sprintf(lower, "max_evict_timeout and max_evict_grace"),
				"a job may ask for %s to free a node (max_evict_timeout, max_evict_grace), but the plugin's prolog gives up after %s (prolog_timeout_ms)", most, ours)
		}
		if there && ours >= limit {
			r.fail("raise "+prologKey+" in slurm.conf, or lower prolog_timeout_ms in plugstack.conf",
				"the plugin's prolog may take %s (prolog_timeout_ms), but Slurm kills it after %s (%s) and drains the node", ours, limit, prologKey)
		}
	}
	start, set := h.seconds("BatchStartTimeout")
	if !set {
		start = 10 * time.Second // Slurm's default
	}
	inner, name := usual, "freeing a node may take"
	if there {
		inner, name = limit, prologKey+" is"
	}
	if inner >= start {
		r.fail("raise BatchStartTimeout in slurm.conf above this", "%s %s, but Slurm considers a batch job lost if it has not started after %s (BatchStartTimeout)", name, inner, start)
	}
	r.good("freeing a node %s, at most %s; %s; BatchStartTimeout %s", usual, most, timeoutText(prologKey, limit, there), start)
}

func timeoutText(key string, limit time.Duration, there bool) string {
	if !there {
		return key + " is not set: Slurm waits without limit"
	}
	return key + " " + limit.String()
}
