// Package doctor checks a host end to end and says what to do about each problem. A
// check is named in the administrator's terms. It looks at the files, Slurm and the API
// server themselves, and changes nothing.
package doctor

import (
	"context"
	"fmt"
	"time"

	"slurmk8s.io/slurmk8s/bridge/address"
)

// Role is a host's role in Slurm.
type Role string

// The roles.
const (
	Controller Role = "controller"
	Node       Role = "node"
	Login      Role = "login"
)

// Status is the result of a check.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failed  Status = "failed"
)

// Result is one line of the report.
type Result struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Do     string `json:"do,omitempty"` // what to do about it
}

// Options say what to check. The zero value of every field except ConfigPath means this host.
type Options struct {
	ConfigPath string
	Roles      []Role // none: what slurm.conf says this host is
	NodeName   string // in slurm.conf; "": SLURMD_NODENAME or the host's name
	Paths      Paths
	Now        func() time.Time
	Addresses  address.Finder
}

// Paths are the paths that no configuration file names.
type Paths struct {
	PluginDirs  []string // of Slurm; slurm.conf's PluginDir goes first
	LibraryDirs []string // of liblua
	TimerWants  []string // directories of enabled systemd timers
	CronFiles   []string // patterns of files
}

// ThisHost returns the usual paths.
func ThisHost() Paths {
	return Paths{
		PluginDirs: []string{
			"/usr/lib/*/slurm-wlm", "/usr/lib/*/slurm", "/usr/lib64/slurm", "/usr/lib/slurm",
			"/usr/local/lib/slurm", "/opt/slurm/lib/slurm", "/opt/slurm/lib64/slurm",
		},
		LibraryDirs: []string{"/usr/lib/*-linux-gnu", "/lib/*-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/usr/local/lib"},
		TimerWants: []string{
			"/etc/systemd/system/*.target.wants", "/usr/lib/systemd/system/*.target.wants", "/lib/systemd/system/*.target.wants",
		},
		CronFiles: []string{"/etc/crontab", "/etc/cron.d/*", "/var/spool/cron/*", "/var/spool/cron/crontabs/*"},
	}
}

// check is one thing to look at; of whom says on which hosts it matters.
type check struct {
	name string
	whom []Role // none: everywhere
	look func(ctx context.Context, h *host, r *report)
}

// checks in the order in which one thing needs the other.
var checks = []check{
	{"slurmk8s.toml", nil, lookConfig},
	{"Slurm version", nil, lookSlurmVersion},
	{"burst_buffer.conf", []Role{Controller}, lookBurstBufferConf},
	{"burst_buffer.lua", []Role{Controller}, lookScript},
	{"job_submit.lua", []Role{Controller}, lookJobSubmit},
	{"Lua", []Role{Controller}, lookLua},
	{"burst buffer timeouts", []Role{Controller}, lookBurstBufferTimeouts},
	{"state_dir", []Role{Controller}, lookStateDir},
	{"log", []Role{Controller}, lookLog},
	{"PrologSlurmctld", []Role{Controller}, lookSlurmctld},
	{"mirror", []Role{Controller}, lookMirror},
	{"plugstack.conf", []Role{Node, Login}, lookPlugstack},
	{"SPANK plugin", []Role{Node, Login}, lookPlugin},
	{"PrologFlags", []Role{Node}, lookPrologFlags},
	{"prolog timeouts", []Role{Node}, lookPrologTimeouts},
	{"libslurmk8s.so", []Role{Controller, Node}, lookLibrary},
	{"controller credential", []Role{Controller}, lookController},
	{"DWS", []Role{Controller}, lookDWS},
	{"storage servers", []Role{Controller}, lookStorage},
	{"bundles", []Role{Controller}, lookBundles},
	{"node credential", []Role{Node}, lookNode},
	{"admission policy", []Role{Node}, lookAdmission},
	{"kubelet credential", []Role{Node}, lookKubelet},
	{"reconcile", []Role{Controller, Node}, lookReconcile},
}

// Run makes all checks of the host's roles.
func Run(ctx context.Context, o Options) []Result {
	h := newHost(o)
	var all []Result
	for _, c := range checks {
		if !h.is(c.whom) {
			continue
		}
		r := &report{check: c.name}
		c.look(ctx, h, r)
		all = append(all, r.results...)
		if h.cfgErr != nil {
			break // its defaults are of another site: what they name is not this cluster's
		}
	}
	return all
}

// Worst is the worst status of a report.
func Worst(results []Result) Status {
	worst := OK
	for _, r := range results {
		if r.Status == Failed || worst == OK {
			worst = r.Status
		}
	}
	return worst
}

// report collects what one check finds. A check that does not apply reports nothing.
type report struct {
	check   string
	results []Result
}

func (r *report) add(status Status, do, format string, args ...any) {
	r.results = append(r.results, Result{Check: r.check, Status: status, Found: fmt.Sprintf(format, args...), Do: do})
}

func (r *report) ok(format string, args ...any) { r.add(OK, "", format, args...) }

func (r *report) warn(do, format string, args ...any) { r.add(Warning, do, format, args...) }

func (r *report) fail(do, format string, args ...any) { r.add(Failed, do, format, args...) }

// good reports ok, if nothing was reported yet.
func (r *report) good(format string, args ...any) {
	if len(r.results) == 0 {
		r.ok(format, args...)
	}
}
