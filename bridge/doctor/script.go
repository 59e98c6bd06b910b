package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/version"
)

// script is burst_buffer.lua or job_submit.lua, as far as it is read without running it.
type script struct {
	path     string
	version  string
	settings map[string]string
}

// How the settings begin in slurmk8s's own scripts.
const (
	burstBufferTable = "local SETTINGS = {"
	jobSubmitTable   = "local slurmk8s = {"
)

// readScript reads slurmk8s's script with that table, at path or run by a site's own there.
func readScript(path, table string) (*script, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, values, ok := strings.Cut(string(text), table)
	values, _, closed := strings.Cut(values, "\n}")
	if ours := runByDofile(string(text)); !ok && ours != "" && ours != path {
		s, err := readScript(ours, table)
		if err != nil {
			return nil, fmt.Errorf("it runs %s: %w", ours, cause(err))
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*slurmk8s\.(\w+) = "([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
			s.settings[m[1]] = m[2]
		}
		return s, nil
	}
	if !ok || !closed {
		return nil, fmt.Errorf("is not slurmk8s's %s", filepath.Base(path))
	}
	s := &script{path: path, settings: map[string]string{}}
	if m := regexp.MustCompile(`(?m)^-- slurmk8s (\S+)$`).FindSubmatch(text); m != nil {
		s.version = string(m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^\s*(\w+) = (?:"([^"]*)"|(\d+)),`).FindAllStringSubmatch(values, -1) {
		s.settings[m[1]] = m[2] + m[3]
	}
	return s, nil
}

// runByDofile is the file that a site's own script runs by dofile("PATH"): docs/installation.md
// shows how it uses both. Empty if there is none.
func runByDofile(text string) string {
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "--")
		if _, rest, ok := strings.Cut(code, `dofile("`); ok {
			path, _, _ := strings.Cut(rest, `"`)
			return path
		}
	}
	return ""
}

// lookScript checks the script, and what it is told about the rest.
func lookScript(_ context.Context, h *host, r *report) {
	if !h.workflows() {
		return
	}
	path := h.script()
	again := "install slurmk8s's burst_buffer.lua there: Slurm looks for it only in the directory of slurm.conf"
	if !h.trusted(r, path, again) {
		return
	}
	s, err := readScript(path, burstBufferTable)
	if err != nil {
		r.fail(again, "%s: %v", path, cause(err))
		return
	}
	if s.path != path && !h.trusted(r, s.path, again) {
		return
	}
	path = s.path
	if s.version != version.Version {
		r.fail("install the file of this version", "%s is of version %s, this program is %s", path, orUnknown(s.version), version.Version)
	}
	for _, want := range []struct{ key, value, name string }{
		{"config", h.o.ConfigPath, "the slurmk8s.toml that doctor checks"},
		{"state_dir", h.cfg.StateDir, "state_dir of slurmk8s.toml"},
	} {
		if s.settings[want.key] != want.value {
			r.fail(fmt.Sprintf("set %s = %q in %s", want.key, want.value, path), "%s of %s is %q, but %s is %s", want.key, path, s.settings[want.key], want.name, want.value)
		}
	}
	h.trusted(r, s.settings["program"], "set program in "+path+" to where slurmk8s is")
	r.good("%s, version %s", path, s.version)
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}
