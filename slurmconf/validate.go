package slurmconf

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
)

const (
	// maxClusterBytes leaves room in slurm-<cluster>-<jobid> and in labels, which
	// end at 63 bytes.
	maxClusterBytes   = 40
	maxNamespaceBytes = 63 // a DNS label
	// maxSlurmTimeout is the longest that Slurm lets a hook run (24 days,
	// burst_buffer_lua.c _test_config).
	maxSlurmTimeout = 2073600 * time.Second
)

// validate checks each value; the first one that is wrong in the order of Config
// is reported.
func (d *document) validate(c *Config) error {
	if c.Cluster != "" && !isDNSLabel(c.Cluster, maxClusterBytes) {
		return d.invalid("cluster", "%s is not a name of at most %d lower-case letters, digits and \"-\"",
			quoted(c.Cluster), maxClusterBytes)
	}
	for _, p := range []struct {
		key, path  string
		mayBeUnset bool
	}{
		{"slurm_conf", c.SlurmConf, false},
		{"slurm_bin_dir", c.SlurmBinDir, true},
		{"state_dir", c.StateDir, false},
		{"kubernetes.kubeconfig", c.Kubernetes.Kubeconfig, false},
		{"log.file", c.Log.File, true},
		{"metrics.textfile", c.Metrics.Textfile, true},
		{"services.kubeconfig", c.Services.Kubeconfig, false},
		{"services.run_dir", c.Services.RunDir, false},
		{"bundles.kubeconfig", c.Bundles.Kubeconfig, true},
		{"nodes.kubeconfig", c.Nodes.Kubeconfig, false},
		{"nodes.dbus_socket", c.Nodes.DBusSocket, false},
	} {
		if p.path == "" && p.mayBeUnset {
			continue
		}
		if err := d.checkPath(p.key, p.path); err != nil {
			return err
		}
	}
	if c.Bundles.Kubeconfig != "" && filepath.Clean(c.Bundles.Kubeconfig) == filepath.Clean(c.Kubernetes.Kubeconfig) {
		return d.invalid("bundles.kubeconfig", "%s is kubernetes.kubeconfig: give another path, or leave it out to use that credential for bundles too",
			quoted(c.Bundles.Kubeconfig))
	}
	if err := d.checkChoice("log.level", c.Log.Level, "error", "warning", "info", "debug"); err != nil {
		return err
	}
	if err := d.checkDurations(c); err != nil {
		return err
	}
	if err := d.validateWorkflows(&c.Workflows); err != nil {
		return err
	}
	if err := d.validateServices(&c.Services); err != nil {
		return err
	}
	if err := d.validateBundles(&c.Bundles); err != nil {
		return err
	}
	if n := c.Reconcile.MaxRemovals; n < 1 || n > 1000000 {
		return d.invalid("reconcile.max_removals", "%d is out of range, 1 to 1000000", n)
	}
	return d.validateNodes(&c.Nodes)
}

// featureBytes are those of a feature that needs no quotes in a job's constraint.
const featureBytes = lowerCase + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits + "-_."

func (d *document) validateWorkflows(w *Workflows) error {
	if !isDNSLabel(w.Namespace, maxNamespaceBytes) {
		return d.invalid("workflows.namespace", "%s cannot be a Kubernetes namespace: at most %d lower-case letters, "+
			"digits and \"-\"", quoted(w.Namespace), maxNamespaceBytes)
	}
	if w.Directive != "" && !isDirectiveWord(w.Directive) {
		return d.invalid("workflows.directive", "%s cannot be the word of a directive: write for example \"DW\", "+
			"without \"#\"", quoted(w.Directive))
	}
	if err := d.checkChoice("workflows.submit", w.Submit, SubmitDryRun, SubmitCreate, SubmitLocal); err != nil {
		return err
	}
	err := d.checkChoice("workflows.on_unreachable", w.OnUnreachable, OnUnreachableAccept, OnUnreachableRefuse)
	if err != nil {
		return err
	}
	if w.Submit == SubmitLocal && w.OnUnreachable == OnUnreachableRefuse {
		return d.invalid("workflows.on_unreachable", "\"refuse\" has no effect with submit = \"local\", "+
			"which makes no request: remove one of them")
	}
	if err := d.checkChoice("workflows.data_out_timeout_action", w.DataOutTimeoutAction, DataOutHold, DataOutTeardown); err != nil {
		return err
	}
	if err := d.checkChoice("workflows.health", w.Health, HealthReport, HealthFeature, HealthDrain); err != nil {
		return err
	}
	if f := w.NodeFeature; f != "" && !isOf(f, featureBytes, 63) {
		return d.invalid("workflows.node_feature", "%s is not a feature of Slurm, such as \"rabbit\": at most 63 letters, digits, \"-\", \"_\" and \".\"", quoted(f))
	}
	if w.Health == HealthFeature && w.NodeFeature == "" {
		return d.invalid("workflows.health", "\"feature\" needs workflows.node_feature: the feature that nodes lose")
	}
	if err := d.checkChoice("workflows.token", w.Token, TokenOff, TokenJob); err != nil {
		return err
	}
	if f := w.RabbitFeature; f != "" && (strings.Count(f, "{rabbit}") != 1 || !isOf(strings.ReplaceAll(f, "{rabbit}", ""), featureBytes, 63)) {
		return d.invalid("workflows.rabbit_feature", "%s is not a feature with {rabbit} in it, such as \"{rabbit}\" or \"on-{rabbit}\"", quoted(f))
	}
	if err := d.checkChoice("workflows.placement", w.Placement, PlacementNodesFirst, PlacementStorageFirst); err != nil {
		return err
	}
	if w.Placement == PlacementStorageFirst && w.RabbitFeature == "" {
		return d.invalid("workflows.placement", "\"storage-first\" needs workflows.rabbit_feature: Slurm has to choose the nodes of the storage")
	}
	if w.ComputeNames != ComputeNamesNode && w.ComputeNames != ComputeNamesHostname && !filepath.IsAbs(w.ComputeNames) {
		return d.invalid("workflows.compute_names", "%s must be node, hostname or the absolute path of a file", quoted(w.ComputeNames))
	}
	if w.Pool != "" && !isDNSLabel(w.Pool, maxNamespaceBytes) {
		return d.invalid("workflows.pool", "%s is not a name of at most %d lower-case letters, digits and \"-\"", quoted(w.Pool), maxNamespaceBytes)
	}
	if n := w.MaxRequeues; n < 0 || n > 1000 {
		return d.invalid("workflows.max_requeues", "%d is out of range, 0 to 1000", n)
	}
	seen := map[string]bool{}
	for _, name := range w.Operators {
		if !isUserName(name) {
			return d.invalid("workflows.operators", "%s cannot be a user name", quoted(name))
		}
		if seen[name] {
			return d.invalid("workflows.operators", "%s is given twice", quoted(name))
		}
		seen[name] = true
	}
	return d.validateStorageRules(w)
}

func (d *document) checkDurations(c *Config) error {
	w, t, s, n := &c.Workflows, &c.Workflows.Timeouts, &c.Services, &c.Nodes
	for _, v := range []struct {
		key      string
		value    Duration
		min, max time.Duration
	}{
		{"kubernetes.request_timeout", c.Kubernetes.RequestTimeout, 100 * time.Millisecond, 5 * time.Minute},
		{"workflows.breaker", w.Breaker, 0, time.Hour},
		{"workflows.busy_wait", w.BusyWait, 0, 5 * time.Minute},
		{"workflows.transient_grace", w.TransientGrace, 0, 24 * time.Hour},
		{"workflows.unmount_timeout", w.UnmountTimeout, 0, 24 * time.Hour},
		{"workflows.timeouts.proposal", t.Proposal, 0, maxSlurmTimeout},
		{"workflows.timeouts.setup", t.Setup, 0, maxSlurmTimeout},
		{"workflows.timeouts.data_in", t.DataIn, 0, maxSlurmTimeout},
		{"workflows.timeouts.pre_run", t.PreRun, 0, maxSlurmTimeout},
		{"workflows.timeouts.post_run", t.PostRun, 0, maxSlurmTimeout},
		{"workflows.timeouts.data_out", t.DataOut, 0, maxSlurmTimeout},
		{"workflows.timeouts.teardown", t.Teardown, 0, maxSlurmTimeout},
		{"services.ready_timeout", s.ReadyTimeout, time.Second, 24 * time.Hour},
		{"services.ready_interval", s.ReadyInterval, 0, time.Hour},
		{"services.renew_interval", s.RenewInterval, 5 * time.Second, 10 * time.Minute},
		{"bundles.max_timeout", c.Bundles.MaxTimeout, time.Second, 24 * time.Hour},
		{"nodes.evict_grace", n.EvictGrace, time.Second, time.Hour},
		{"nodes.min_evict_grace", n.MinEvictGrace, time.Second, time.Hour},
		{"nodes.max_evict_grace", n.MaxEvictGrace, time.Second, time.Hour},
		{"nodes.evict_timeout", n.EvictTimeout, 0, 24 * time.Hour},
		{"nodes.max_evict_timeout", n.MaxEvictTimeout, 0, 24 * time.Hour},
		{"nodes.settle", n.Settle, 0, time.Minute},
		{"nodes.api_timeout", n.APITimeout, time.Second, 5 * time.Minute},
		{"reconcile.min_age", c.Reconcile.MinAge, 0, 24 * time.Hour},
		{"nodes.mirror_after", n.MirrorAfter, 0, time.Hour},
		{"nodes.units_timeout", n.UnitsTimeout, time.Second, 10 * time.Minute},
	} {
		if v.value.Std() < v.min || v.value.Std() > v.max {
			return d.invalid(v.key, "%s is out of range, %s to %s", v.value, v.min, v.max)
		}
	}
	return nil
}

func (d *document) checkPath(key, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) == "/" || strings.IndexFunc(path, unicode.IsControl) >= 0 {
		return d.invalid(key, "%s is not an absolute path such as \"/etc/slurm/...\"", quoted(path))
	}
	return nil
}

func (d *document) checkChoice(key, value string, choices ...string) error {
	if !slices.Contains(choices, value) {
		return d.invalid(key, "%s must be one of %s", quoted(value), strings.Join(choices, ", "))
	}
	return nil
}

func (d *document) invalid(key, format string, args ...any) error {
	return d.errorAt(toml.Key(strings.Split(key, ".")), key, nil, format, args...)
}

// isGroupName is as isUserName; directories also have groups such as "domain users".
func isGroupName(s string) bool {
	return strings.TrimSpace(s) == s && isUserName(strings.ReplaceAll(s, " ", "_"))
}

// isUserName is not stricter than the sites' directories are ("a.b@site", `DOM\a`),
// but a blank or a list in one text is a mistake.
func isUserName(s string) bool {
	return s != "" && len(s) <= 256 && strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.IsSpace(r) || strings.ContainsRune(",:*", r)
	}) < 0
}
