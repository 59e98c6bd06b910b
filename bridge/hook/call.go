package hook

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/metrics"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/state"
	"slurmk8s.io/slurmk8s/bridge/version"
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
	local       state.Dir
	job         *workflow.Job
	script      []byte // the job script, once directives has read it
	log         *logrus.Entry
	logSink     io.Closer
	metrics     metrics.Dir
	workflows   *workflow.Driver // of a hook that has the time to tell why it failed
	idle        bool             // there was nothing to do, which every job's prolog would log
}

func newCall(name string, request wire.Fields) (*call, error) {
	path := request[wire.KeyConfig]
	if path == "" {
		path = slurmconf.DefaultPath
	}
	cfg, err := slurmconf.Load(path)
	if err != nil {
		return nil, err
	}
	if dir := request[wire.KeyStateDir]; dir != "" && filepath.Clean(dir) != filepath.Clean(cfg.StateDir) {
		return nil, fmt.Errorf("burst_buffer.lua keeps its files in %s, %s says state_dir = %q: make them equal", dir, path, cfg.StateDir)
	}
	if err := state.Dir(cfg.StateDir).Check(); err != nil {
		return nil, err
	}
	job, err := jobOf(request)
	if err != nil {
		return nil, err
	}
	logger, sink, err := logging.New(cfg.Log)
	if err != nil {
		return nil, err
	}
	c := &call{
		request: request, reply: wire.Fields{}, cfg: cfg, configPath: path,
		local: state.Dir(cfg.StateDir), job: job,
		log:     logger.WithFields(logrus.Fields{"hook": name, "job": job.ID, "uid": job.UID}),
		logSink: sink, metrics: metrics.In(cfg.Metrics.Textfile, cfg.StateDir),
	}
	c.burstBuffer, err = slurmconf.ReadBurstBufferConf(cfg.SlurmConf)
	if err != nil {
		c.log.Warnf("%v: going by Slurm's defaults", err)
	}
	return c, nil
}

func (c *call) close() { c.logSink.Close() }

// driver connects to Kubernetes. It is made where a hook needs it, since several
// can end without. hasty is for the hooks that Slurm waits for under a lock.
func (c *call) driver(ctx context.Context, hasty bool) (*workflow.Driver, error) {
	client, err := kube.New(kube.Options{
		Kubeconfig:     c.cfg.Kubernetes.Kubeconfig,
		RequestTimeout: c.cfg.Kubernetes.RequestTimeout.Std(),
		UserAgent:      fmt.Sprintf("slurmk8s/%s (cluster %s; job %d)", version.Version, c.cfg.Cluster, c.job.ID),
		Hasty:          hasty,
		Log:            c.log,
	})
	if err != nil {
		return nil, err
	}
	d, err := workflow.New(ctx, c.cfg, client, c.log)
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
	job := &workflow.Job{
		User:       request[wire.KeyUser],
		Restarts:   request[wire.KeyRestart],
		SubmitTime: request[wire.KeySubmitTime],
		ScriptPath: request[wire.KeyScript],
		Hurry:      request[wire.KeyHurry] == "true",
		Polls:      request[wire.KeyBusy] == "true",
	}
	for _, field := range []struct {
		key string
		to  *uint32
	}{{wire.KeyJobID, &job.ID}, {wire.KeyUID, &job.UID}, {wire.KeyGID, &job.GID}} {
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
	if request[wire.KeyJobID] != "" && job.ID == 0 {
		return nil, fmt.Errorf("%s=%q is not the number of a job", wire.KeyJobID, request[wire.KeyJobID])
	}
	if nodes := request[wire.KeyNodes]; nodes != "" {
		names, err := slurmconf.ExpandHostlist(nodes)
		if err != nil {
			return nil, err
		}
		job.Nodes = names
	}
	return job, nil
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
