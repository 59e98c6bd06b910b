// Package slurmconf reads the configuration that the bridge needs: its own
// slurmk8s.toml (strictly), and from Slurm's files slurm.conf and
// burst_buffer.conf what it has to know (tolerantly: Slurm itself checks those).
package slurmconf

import (
	"fmt"
	"strconv"
	"time"
)

// The directories that this build was made for. The linker sets them (Makefile: SYSCONFDIR,
// STATEDIR and SHAREDIR).
var (
	sysconfdir = "/etc/slurm"
	statedir   = "/var/spool/slurmk8s"
	sharedir   = "/usr/share/slurmk8s"
)

// DefaultPath is where slurmk8s.toml is, unless a hook was told another path.
var DefaultPath = sysconfdir + "/slurmk8s.toml"

// BundleDirs are the directories that bundles are in, the site's before that of the
// packages.
var BundleDirs = []string{sysconfdir + "/slurmk8s.d/bundles", sharedir + "/bundles"}

// Config is slurmk8s.toml. Every key has a default; an empty file is valid.
// packaging/slurmk8s.toml documents each key for the administrator.
type Config struct {
	// Cluster names this Slurm cluster in the names and labels of Kubernetes
	// objects. Default: ClusterName of slurm.conf.
	Cluster string `toml:"cluster"`
	// SlurmConf is the absolute path of slurm.conf; burst_buffer.conf is in the same
	// directory. Default: where Slurm itself finds it, the first
	// of slurmConfPlaces that exists.
	SlurmConf string `toml:"slurm_conf"`
	// SlurmBinDir is the absolute path of the directory of squeue, scontrol and
	// scancel. Default: "", the usual places.
	SlurmBinDir string `toml:"slurm_bin_dir"`
	// StateDir is the absolute path of the bridge's local state: the breaker,
	// the files that burst_buffer.lua reads, and what hooks keep for each other. Default: /var/spool/slurmk8s.
	StateDir string `toml:"state_dir"`

	Kubernetes Kubernetes   `toml:"kubernetes"`
	Log        Log          `toml:"log"`
	Metrics    Metrics      `toml:"metrics"`
	Workflows  Workflows    `toml:"workflows"`
	Services   Services     `toml:"services"`
	Bundles    Bundles      `toml:"bundles"`
	Nodes      NodeSettings `toml:"nodes"`
	Reconcile  Reconcile    `toml:"reconcile"`
}

// Kubernetes says how the API server is reached.
type Kubernetes struct {
	// Kubeconfig is the absolute path of the credential that the hooks use.
	// Default: /etc/slurm/slurmk8s.kubeconfig. Check it with CheckSecretFile.
	Kubeconfig string `toml:"kubeconfig"`
	// RequestTimeout bounds one attempt of one request, 100ms to 5m. Default: 5s.
	RequestTimeout Duration `toml:"request_timeout"`
}

// Log says what is logged, and where to.
type Log struct {
	// Level is "error", "warning", "info" or "debug". Default: "info".
	Level string `toml:"level"`
	// File is the absolute path of a log file. Default: "", the journal.
	File string `toml:"file"`
}

// Metrics says where counters and durations go.
type Metrics struct {
	// Textfile is the absolute path of a file in the directory of node_exporter's
	// textfile collector, written by `slurmk8s reconcile`. Default: "", none.
	Textfile string `toml:"textfile"`
}

// Reconcile bounds what one run of `slurmk8s reconcile` removes.
type Reconcile struct {
	// MaxRemovals is how many jobs a run may remove objects of, 1 to 1000000; a run
	// that comes to more removes nothing, unless the next one comes to the same.
	// Default: 50.
	MaxRemovals int `toml:"max_removals"`
	// MinAge is how long slurmctld must have been up, and an object must have existed,
	// before the object is removed; 0s to 24h. Default: 1m.
	MinAge Duration `toml:"min_age"`
}

// The values of Workflows.Submit.
const (
	SubmitDryRun = "dry-run" // DWS's webhooks judge the directives, nothing is stored
	SubmitCreate = "create"  // the Workflow is made at submission
	SubmitLocal  = "local"   // only syntax, no request
)

// The values of Workflows.OnUnreachable.
const (
	OnUnreachableAccept = "accept" // the job is accepted; slurm_bb_setup judges it later
	OnUnreachableRefuse = "refuse" // the submission fails
)

// The values of Workflows.Health.
const (
	HealthReport  = "report"  // only slurmk8s storage and doctor show it
	HealthFeature = "feature" // Slurm's nodes lose NodeFeature, and get it back when all is well
	HealthDrain   = "drain"   // Slurm's nodes are drained, and undrained when all is well
)

// Values of Workflows.DataOutTimeoutAction.
const (
	DataOutHold     = "hold"     // the storage is kept until reconcile has it copied
	DataOutTeardown = "teardown" // the storage is removed with it
)

// The values of Workflows.Token.
const (
	TokenOff = "off" // the job does not get it
	TokenJob = "job" // each of the job's nodes reads it with a credential of its own
)

// The values of Workflows.Placement.
const (
	PlacementNodesFirst   = "nodes-first"   // storage of nodes is made when the job has nodes
	PlacementStorageFirst = "storage-first" // before that, if the job copies data in
)

// The values of Workflows.ComputeNames, besides the path of a file.
const (
	ComputeNamesNode     = "node"     // NodeName
	ComputeNamesHostname = "hostname" // NodeHostname
)

// Workflows configures the storage workflows: `#DW` lines and DWS.
type Workflows struct {
	// Namespace holds the Workflow objects. Default: "slurm".
	Namespace string `toml:"namespace"`
	// Directive is the word after # that begins a directive line. Default: "",
	// which means Directive of burst_buffer.conf and, without such a file, "DW".
	// Slurm itself only knows the word of burst_buffer.conf.
	Directive string `toml:"directive"`
	// Submit says how a submission is checked: SubmitDryRun, SubmitCreate or
	// SubmitLocal. Default: "dry-run".
	Submit string `toml:"submit"`
	// OnUnreachable says what happens to a submission when Kubernetes does not
	// answer: OnUnreachableAccept or OnUnreachableRefuse. Default: "accept".
	OnUnreachable string `toml:"on_unreachable"`
	// Breaker is how long after a failed check only the syntax of submissions is
	// checked; 0s to 1h, 0s turns the breaker off. Default: 30s.
	Breaker Duration `toml:"breaker"`
	// BusyWait is how long slurm_bb_test_data_in and _out wait before they
	// answer BUSY; 0s to 5m. Default: 5s.
	BusyWait Duration `toml:"busy_wait"`
	// TransientGrace is how long a driver's TransientCondition is tolerated
	// before the hook fails; 0s to 24h. Default: 60s.
	TransientGrace Duration `toml:"transient_grace"`
	// Operators are user names that may see every job's bbstat, besides root,
	// SlurmUser and the job's owner. Default: none.
	Operators []string `toml:"operators"`
	// MaxRequeues is how often a job goes back into the queue because the rabbits of its
	// nodes have no storage for it, before it is held; 0 to 1000. Default: 2.
	MaxRequeues int `toml:"max_requeues"`
	// RabbitFeature is the feature of Slurm's nodes that names their storage server, with
	// "{rabbit}" for its name. Default: "", there is none.
	RabbitFeature string `toml:"rabbit_feature"`
	// Placement says when storage of nodes is made: PlacementNodesFirst, or, with
	// RabbitFeature, PlacementStorageFirst. Default: "nodes-first".
	Placement string `toml:"placement"`
	// ComputeNames says by which names DWS knows Slurm's nodes: ComputeNamesNode,
	// ComputeNamesHostname, or the absolute path of a file that NamePairs reads. Default:
	// "node".
	ComputeNames string `toml:"compute_names"`
	// Health says what reconcile does with nodes whose storage server, or the link to it, is
	// not well: HealthReport, HealthFeature or HealthDrain. Default: "report".
	Health string `toml:"health"`
	// NodeFeature is the feature of Slurm's nodes that have storage. Jobs that need storage of
	// their nodes ask for it. Default: "", there is none.
	NodeFeature string `toml:"node_feature"`
	// DataOutTimeoutAction says what becomes of data that copy_out has not copied when DataOut, or
	// PostRun before it, has taken its time: DataOutHold or DataOutTeardown. Default: "hold".
	DataOutTimeoutAction string `toml:"data_out_timeout_action"`
	// UnmountTimeout is how long the epilog of a node waits for the job's storage to be
	// unmounted there, before it drains the node; 0s to 24h, and not longer than
	// epilog_timeout_ms of plugstack.conf. Default: 0s, it does not wait.
	UnmountTimeout Duration `toml:"unmount_timeout"`
	// Pool is the pool of Slurm's burst buffer that follows what is free of all storage
	// servers: reconcile writes pools.json in StateDir. Default: "", none.
	Pool string `toml:"pool"`
	// Token says whether a job gets the token that its containers ask for: TokenOff or
	// TokenJob. Default: "off".
	Token string `toml:"token"`
	// Timeouts bound the wait in each state.
	Timeouts Timeouts `toml:"timeouts"`
	// Allow are the rules about who may use which directives. Default: none, everybody may use
	// all that DWS allows.
	Allow []StorageRule `toml:"allow"`
	// Presets are names for directives. Default: none.
	Presets []Preset `toml:"presets"`
}

// Timeouts bound the wait for each state of a Workflow. Default, each: 0s, as
// long as Slurm lets the hook run.
type Timeouts struct {
	Proposal Duration `toml:"proposal"`
	Setup    Duration `toml:"setup"`
	DataIn   Duration `toml:"data_in"`
	PreRun   Duration `toml:"pre_run"`
	PostRun  Duration `toml:"post_run"`
	DataOut  Duration `toml:"data_out"`
	Teardown Duration `toml:"teardown"`
}

// slurmConfPlaces are where slurm.conf is unless slurm_conf says otherwise: the usual
// place, and that of a host that gets its configuration from slurmctld ("configless",
// _establish_config_source of src/common/read_config.c). SLURM_CONF is not asked: hooks
// ignore the environment, and one configuration serves them and the commands.
func slurmConfPlaces() []string {
	return []string{sysconfdir + "/slurm.conf", "/run/slurm/conf/slurm.conf"}
}

// Default returns the configuration of an empty slurmk8s.toml. Cluster and
// Workflows.Directive are still empty: Load takes them from Slurm's files.
func Default() *Config {
	return &Config{
		SlurmConf: firstThere(slurmConfPlaces()),
		StateDir:  statedir,
		Kubernetes: Kubernetes{
			Kubeconfig:     sysconfdir + "/slurmk8s.kubeconfig",
			RequestTimeout: Duration(5 * time.Second),
		},
		Log: Log{Level: "info"},
		Workflows: Workflows{
			Namespace:            "slurm",
			Submit:               SubmitDryRun,
			OnUnreachable:        OnUnreachableAccept,
			Breaker:              Duration(30 * time.Second),
			BusyWait:             Duration(5 * time.Second),
			TransientGrace:       Duration(60 * time.Second),
			MaxRequeues:          2,
			Placement:            PlacementNodesFirst,
			ComputeNames:         ComputeNamesNode,
			Health:               HealthReport,
			DataOutTimeoutAction: DataOutHold,
			Token:                TokenOff,
		},
		Services:  defaultServices(),
		Bundles:   defaultBundles(),
		Nodes:     defaultNodes(),
		Reconcile: Reconcile{MaxRemovals: 50, MinAge: Duration(time.Minute)},
	}
}

// Duration is a time.Duration that is written as text with a unit: "1500ms",
// "30s", "2h". A bare number is an error, since nobody can tell its unit.
type Duration time.Duration

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is time.Duration's.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes d so that UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "30s". The error says what to write instead.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if _, bare := strconv.ParseFloat(string(text), 64); bare == nil {
		return fmt.Errorf("%s has no unit, write %q", text, string(text)+"s")
	}
	if err != nil {
		return fmt.Errorf("%q is not a duration, write for example \"30s\"", text)
	}
	*d = Duration(v)
	return nil
}
