package doctor

import (
	"context"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/bundle"
)

// lookBundles wants each bundle that jobs may have to be one that the hooks can load, and
// the hooks to be there.
func lookBundles(_ context.Context, h *host, r *report) {
	rules := h.cfg.Bundles.Allow
	if len(rules) == 0 {
		r.ok("not used: slurmk8s.toml has no [[bundles.allow]]")
		return
	}
	if !h.workflows() {
		r.fail("set BurstBufferType=burst_buffer/lua in "+h.cfg.SlurmConf+" and link slurmk8s's burst_buffer.lua to "+h.script(),
			"[[bundles.allow]] has rules, but Slurm runs no burst_buffer.lua, which makes the objects")
	}
	dirs := h.cfg.Bundles.Dirs
	names, err := bundle.Names(dirs)
	if err != nil {
		r.fail("", "%v", err)
		return
	}
	loaded := 0
	for _, name := range names {
		if _, err := bundle.Find(dirs, name); err != nil {
			r.warn("correct it, or remove its folder (slurmk8s bundle check DIR)", "%v", err)
			continue
		}
		loaded++
	}
	for _, rule := range rules {
		for _, name := range rule.Bundles {
			if !strings.Contains(name, "*") && !slices.Contains(names, name) {
				r.warn("install it, or take it out of the rule", "a [[bundles.allow]] names bundle %s, which is not in %s", name, strings.Join(dirs, ", "))
			}
		}
	}
	r.good("%d bundles in %s", loaded, strings.Join(dirs, ", "))
}
