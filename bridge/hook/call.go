package hook

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/metrics"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// call is one run of a hook.
type call struct {
	request     wire.Fields
	configPath  string
	reply       wire.Fields
	cfg         *slurmconf.Config
	burstBuffer *slurmconf.BurstBuffer
	local       workflow.Files
	job         *workflow.Job
	script      []byte // the job script, once directives has read it
	log         *logrus.Entry
	logSink     io.Closer
	metrics     metrics.Dir
	workflows   *workflow.Driver // of a hook that has the time to tell why it failed
	resumed     bool             // DWS was asked, maybe in a version that an earlier hook was told
	idle        bool             // there was nothing to do, which every job's prolog would log
}

// open reads the configuration and the job, and opens the log. metricsDir is where hooks
// of this host may write.
func open(name string, request wire.Fields, metricsDir func(*slurmconf.Config) string) (*call, error) {
	path := configPath(request)
	cfg, err := slurmconf.Load(path)
	if err != nil {
		return nil, err
	}
	of, err := jobOf(request)
	if err != nil {
		return nil, err
	}
	of.Cluster = cfg.Cluster
	logger, sink, err := logging.New(cfg)
	if err != nil {
		return nil, err
	}
	return &call{
		request: request, reply: wire.Fields{}, cfg: cfg, configPath: path, job: of,
		log:     logger.WithFields(logrus.Fields{"hook": name, "job": of.ID, "uid": of.UID}),
		logSink: sink, metrics: metrics.In(cfg.Metrics.Textfile, metricsDir(cfg)),
	}, nil
}

func configPath(request wire.Fields) string {
	if path := request[wire.KeyConfig]; path != "" {
		return path
	}
	return slurmconf.DefaultPath
}

func stateDir(cfg *slurmconf.Config) string { return cfg.StateDir }
func runDir(cfg *slurmconf.Config) string   { return cfg.Services.RunDir }

// openBurstBuffer is for the hooks of burst_buffer.lua, on the controller as SlurmUser.
func openBurstBuffer(name string, request wire.Fields) (*call, error) {
	c, err := open(name, request, stateDir)
	if err != nil {
		return nil, err
	}
	if err := c.openState(); err != nil {
		c.close()
		return nil, err
	}
	c.burstBuffer, err = slurmconf.ReadBurstBufferConf(c.cfg.SlurmConf)
	if err != nil {
		c.log.Warnf("%v: using Slurm's defaults", err)
	}
	return c, nil
}

// openState checks the directory of the controller's files.
func (c *call) openState() error {
	if dir := c.request[wire.KeyStateDir]; dir != "" && filepath.Clean(dir) != filepath.Clean(c.cfg.StateDir) {
		return fmt.Errorf("state_dir of burst_buffer.lua is %s, but %s has state_dir = %q: make them equal", dir, c.configPath, c.cfg.StateDir)
	}
	c.local = workflow.Files(c.cfg.StateDir)
	if err := hostfile.CheckPrivate(c.cfg.StateDir); err != nil {
		return fmt.Errorf("state_dir %w", err)
	}
	return nil
}

// openNode is for the hooks that run on a node as root, where there is neither
// burst_buffer.conf nor the controller's state.
func openNode(name string, request wire.Fields) (*call, error) { return open(name, request, runDir) }

// openPrompt is for a user's own process: the configuration counts as far as the
// user can read it, and the log is not theirs to write.
func openPrompt(_ string, request wire.Fields) (*call, error) {
	of, err := jobOf(request)
	if err != nil {
		return nil, err
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	c := &call{request: request, reply: wire.Fields{}, job: of, log: logrus.NewEntry(logger), logSink: io.NopCloser(nil)}
	c.cfg, _ = slurmconf.Load(configPath(request)) // nil: the node judges by it
	return c, nil
}

func (c *call) close() { c.logSink.Close() }

// driver connects to Kubernetes. It is made where a hook needs it, since several
// can end without. hasty is for the hooks that Slurm waits for under a lock.
func (c *call) driver(ctx context.Context, hasty bool) (*workflow.Driver, error) {
	purpose := fmt.Sprintf("job %d", c.job.ID)
	client, err := kube.For(c.cfg, c.cfg.Kubernetes.Kubeconfig, purpose, c.log, func(o *kube.Options) { o.Hasty = hasty })
	if err != nil {
		return nil, err
	}
	d, err := workflow.Resume(ctx, c.cfg, client, c.log)
	c.resumed = err == nil
	if err == nil && !hasty {
		c.workflows = d
	}
	return d, err
}

func (c *call) commands() slurm.Commands {
	return slurm.Commands{Dir: c.cfg.SlurmBinDir, Conf: c.cfg.SlurmConf}
}

// jobOf reads what the request says of the job. Slurm's own values are not
// hostile, but a person may run a hook by hand.
func jobOf(request wire.Fields) (*workflow.Job, error) {
	of := &workflow.Job{
		Job: job.Job{
			User: request[wire.KeyUser], SubmitTime: request[wire.KeySubmitTime], Restarts: job.AnyRun,
		},
		ScriptPath: request[wire.KeyScript],
		Hurry:      request[wire.KeyHurry] == "true",
		Polls:      request[wire.KeyBusy] == "true",
	}
	for _, field := range []struct {
		key string
		to  *uint32
	}{{wire.KeyJobID, &of.ID}, {wire.KeyUID, &of.UID}, {wire.KeyGID, &of.GID}, {wire.KeyRestart, &of.Restarts}} {
		text, given := request[field.key]
		if !given || text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s=%q is not a number", field.key, text)
		}
		*field.to = uint32(n)
	}
	if request[wire.KeyJobID] != "" && of.ID == 0 {
		return nil, fmt.Errorf("%s=%q is not a job id", wire.KeyJobID, request[wire.KeyJobID])
	}
	if nodes := request[wire.KeyNodes]; nodes != "" {
		names, err := slurmconf.ExpandHostlist(nodes)
		if err != nil {
			return nil, err
		}
		of.Nodes = names
	}
	return of, nil
}

// need reports the fields that a hook cannot do without and did not get.
func (c *call) need(keys ...string) error {
	for _, key := range keys {
		if c.request[key] == "" {
			return fmt.Errorf("the hook was called without %s", key)
		}
	}
	return nil
}
