package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// A job's hooks are processes that know nothing of each other, and would all ask again what
// the last one knew. So a hook on the controller keeps two things in state_dir: which version
// of DWS's API the server prefers, and the job's Workflow as DWS was done with a state. Both
// are only guesses. A wrong version is noticed by the server, and a Workflow that has changed
// since by its resourceVersion.

// versionLife is for how long a version counts. DWS serves the former one after an upgrade too,
// so that a wrong guess fails only when that is dropped.
const versionLife = 10 * time.Minute

func (f Files) versionPath() string { return filepath.Join(string(f), "dws-version") }

// version is the version of DWS's API that a hook was told a moment ago; "" if there is none.
func (f Files) version() string {
	info, err := os.Lstat(f.versionPath())
	if err != nil {
		return ""
	}
	if age := time.Since(info.ModTime()); age < 0 || age > versionLife {
		return ""
	}
	text, _ := hostfile.Read(f.versionPath())
	return strings.TrimSpace(text)
}

// ForgetVersion makes the next hook ask which version of DWS the server prefers.
func (f Files) ForgetVersion() { _ = hostfile.Remove(f.versionPath()) }

// Resume is New for a hook on the controller, which goes by what earlier ones have kept. If
// the server turns out not to serve DWS's API any more, in the version that it asks for
// (Dropped), ForgetVersion is to be called.
func Resume(ctx context.Context, cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) (*Driver, error) {
	files := Files(cfg.StateDir)
	version := files.version()
	if version == "" {
		found, err := preferred(ctx, client)
		if err != nil {
			return nil, err
		}
		version = found
		if err := hostfile.Write(files.versionPath(), version+"\n", 0o600); err != nil {
			log.Warnf("keep the version of DWS: %v", err)
		}
	}
	d := at(version, cfg, client, log)
	d.files = files
	return d, nil
}

// Dropped reports that err is the server's, which does not serve DWS's API in the version that
// it was asked for.
func Dropped(err error) bool {
	var failed *kube.RequestError
	return kube.Is(err, kube.Unserved) && errors.As(err, &failed) && failed.Group == group
}

const lastFile = "workflow" // of a job

// keep leaves the Workflow for the job's next hook, if DWS is done with what was asked of it.
// In Proposal it may have to wait for its placement.
func (d *Driver) keep(of *Job, o *object) {
	if d.files == "" || o.Desired == Proposal || !o.reached(o.Desired) {
		return
	}
	text, err := json.Marshal(o)
	if err == nil {
		err = d.files.writeOfJob(of.ID, lastFile, string(text))
	}
	if err != nil {
		d.log.Warnf("keep the Workflow: %v", err)
	}
}

// forget removes what keep has left: the job gets another Workflow, or this one goes.
func (d *Driver) forget(of *Job) {
	if d.files == "" {
		return
	}
	if err := hostfile.Remove(filepath.Join(d.files.job(of.ID), lastFile)); err != nil {
		d.log.Warnf("forget the Workflow: %v", err)
	}
}

// last is the Workflow as one of the job's hooks has kept it; nil if none has.
func (d *Driver) last(of *Job) *object {
	if d.files == "" {
		return nil
	}
	text, err := hostfile.Read(filepath.Join(d.files.job(of.ID), lastFile))
	if err != nil {
		return nil
	}
	o := &object{}
	if err := json.Unmarshal([]byte(text), o); err != nil {
		return nil
	}
	if o.Name != of.Name() || o.Namespace != d.cfg.Workflows.Namespace || o.UID == "" || o.ResourceVersion == "" {
		return nil
	}
	return o
}

// goOn asks for the state that follows the one in which the job's last hook left the Workflow,
// or for Teardown, without reading it first. nil: the Workflow is not as it was left, or
// nothing is known of it, so it has to be read. Where the job has not run, what a driver says
// of it counts, which the request for Teardown would lose, and an instance may have to stay.
// Teardown is asked for in this way once: asked for again, its time would begin anew.
func (d *Driver) goOn(ctx context.Context, of *Job, target State) (*object, error) {
	o := d.last(of)
	if o == nil || o.Desired.index() < 0 || !o.Desired.before(target) {
		return nil, nil
	}
	step := o.Desired.next()
	if target == Teardown {
		if o.Desired.before(PostRun) || d.hasToken(o) { // which is revoked before
			return nil, nil
		}
		d.forget(of)
		step = Teardown
	}
	d.log.Infof("%s: %s -> %s", o, o.Desired, step)
	next, err := d.patch(ctx, o, step, of.Hurry && step == Teardown)
	if kube.Is(err, kube.Conflict) || kube.Is(err, kube.NotFound) {
		return nil, nil
	}
	return next, err
}
