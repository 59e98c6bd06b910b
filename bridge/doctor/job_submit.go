package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/version"
)

// lookJobSubmit wants job_submit.lua, which sees a script before Slurm judges its directives.
func lookJobSubmit(_ context.Context, h *host, r *report) {
	if !h.workflows() {
		r.ok("not needed: slurm.conf has no BurstBufferType")
		return
	}
	const without = "Slurm refuses a directive that has capacity= but no pool= that it knows, without a reason, and ignores misspelt directives"
	path := h.beside("job_submit.lua")
	install := "set JobSubmitPlugins=lua in " + h.cfg.SlurmConf + " and link slurmk8s's job_submit.lua to " + path + ", or call its check() in yours"
	plugins := strings.Split(h.values["jobsubmitplugins"], ",")
	if !slices.ContainsFunc(plugins, func(name string) bool { return strings.TrimPrefix(name, "job_submit/") == "lua" }) {
		r.warn(install, "JobSubmitPlugins has no lua: %s", without)
		return
	}
	s, err := readScript(path, jobSubmitTable)
	if err != nil {
		r.warn(install, "%s: %v: %s", path, cause(err), without)
		return
	}
	if !h.trusted(r, s.path, "install slurmk8s's job_submit.lua there") {
		return
	}
	if s.version != version.Version {
		r.fail("install the file of this version", "%s is of version %s, this program is %s", s.path, orUnknown(s.version), version.Version)
	}
	if word := s.settings["directive"]; word != h.cfg.Workflows.Directive {
		r.warn(fmt.Sprintf("set slurmk8s.directive = %q after dofile() in %s", h.cfg.Workflows.Directive, path),
			"directive of %s is %q, but workflows.directive of slurmk8s.toml is %q", path, word, h.cfg.Workflows.Directive)
	}
	r.good("%s, version %s", s.path, s.version)
}
