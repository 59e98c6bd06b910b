package workflow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Variables of a job that has a Workflow.
const (
	// variableWorkflow tells the steps of a job which Workflow they have: see Delivery.Of. Slurm
	// hands it to the job before it starts (slurm_bb_paths). It begins with SLURM since srun
	// sends these variables whatever its --export says.
	variableWorkflow = "SLURMK8S_WORKFLOW"
	// variableDelivered has the same value and comes with the variables of the Workflow, so that
	// an srun that inherits them need not ask. It does not begin with SLURM: it comes with the
	// others or not at all.
	variableDelivered = "K8S_WORKFLOW"
	// variableTokenFile is the path of the job's token on the node, for its owner only.
	variableTokenFile = "DW_WORKFLOW_TOKEN_FILE"
	// variableRabbit is the rabbit of the node, where storage has servers; "" if the node has
	// none. spank/stepd.c knows it: each node has to ask for its own.
	variableRabbit = "SLURMK8S_DW_RABBIT"
	// variableRequires is what requires= of the directives names, separated by commas.
	variableRequires = "SLURMK8S_DW_REQUIRES"
)

// of is a Workflow in one word: a requeued job's has the same name and another UID.
func (o *object) of() string { return o.Name + ":" + string(o.UID) }

// variables are what DWS has set so far, and which Workflow the job has.
func (o *object) variables() Env {
	env := maps.Clone(o.Env)
	if env == nil {
		env = Env{}
	}
	env[variableWorkflow] = o.of()
	return env
}

// Delivery is what the tasks of a job are told on one of its nodes.
type Delivery struct {
	// Of is the job's Workflow, "bb42:UID".
	Of string
	// Env has the variables of status.env, among them the paths of the job's storage
	// (DW_JOB_NAME), as far as a shell can have them.
	Env map[string]string
	// Skipped are the names of those that it cannot.
	Skipped []string
	// Token is what the job's containers know it by; "": they need none, or it is not given to
	// jobs (workflows.token). It is for NodeFiles only.
	Token string
}

// Deliver reads the Workflow of a job that runs. DWS sets the last variables at the end of
// PreRun, after Slurm has asked for the job's variables, so the job's nodes ask again. It is nil
// for a job without a Workflow, and an error while the storage is not mounted. node is the NodeName
// of this one.
func (d *Driver) Deliver(ctx context.Context, job *Job, node string) (*Delivery, error) {
	o, err := d.get(ctx, job.Name())
	if err != nil {
		return nil, err
	}
	// Ids repeat: what an earlier job left tells this one nothing.
	if o == nil || !d.ours(o) || o.OwnerUID != int64(job.UID) {
		return nil, nil
	}
	if o.State.before(PreRun) || o.State == PreRun && !o.Ready {
		state, _ := o.detail()
		return nil, fmt.Errorf("%s is not ready for the job: %s", o, state)
	}
	delivery := &Delivery{Of: o.of(), Env: map[string]string{}}
	for name, value := range o.variables() {
		if !IsVariable(name, value) {
			delivery.Skipped = append(delivery.Skipped, name)
			continue
		}
		delivery.Env[name] = value
	}
	delivery.Env[variableDelivered] = delivery.Of
	o.aboutServers(node, delivery.Env)
	if delivery.Token, err = d.token(ctx, o, node); err != nil {
		return nil, fmt.Errorf("the job's token: %w", err)
	}
	return delivery, nil
}

// NodeFiles are what a compute node keeps for the later steps of its jobs, in directories
// storage.<id> of services.run_dir, which is root's and empty after a boot. In each is a file
// "env", which only root can read: fields as the step program answers them, with the uid of the
// job and its Workflow. slurmstepd reads it (spank/storage.c). "token" is the job's token, which its
// owner can read. The epilog removes both.
type NodeFiles string

const nodeFilesPrefix = "storage."

func (f NodeFiles) dir(job uint32) string { return hostfile.OfJob(string(f), nodeFilesPrefix, job) }

// Keep keeps what the job is told here. It adds to the delivery where the token is.
func (f NodeFiles) Keep(job, uid, gid uint32, delivery *Delivery) error {
	if err := f.make(job); err != nil {
		return fmt.Errorf("keep the variables of the job's storage: %w", err)
	}
	if delivery.Token != "" {
		path := filepath.Join(f.dir(job), "token")
		if err := f.keepToken(path, delivery.Token, &hostfile.Owner{UID: int(uid), GID: int(gid)}); err != nil {
			return fmt.Errorf("keep the job's token: %w", err)
		}
		delivery.Env[variableTokenFile] = path
	}
	fields := wire.Fields{wire.KeyUID: strconv.FormatUint(uint64(uid), 10), wire.KeyWorkflow: delivery.Of}
	for name, value := range delivery.Env {
		fields[wire.KeySetEnv+name] = value
	}
	var text strings.Builder
	err := wire.WriteFrame(&text, fields)
	if err == nil {
		err = hostfile.Write(filepath.Join(f.dir(job), "env"), text.String(), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the variables of the job's storage: %w", err)
	}
	return nil
}

// keepToken writes the token, which must never come to a disk.
func (f NodeFiles) keepToken(path, token string, of *hostfile.Owner) error {
	var info unix.Statfs_t
	if err := unix.Statfs(string(f), &info); err != nil {
		return err
	}
	if info.Type != unix.TMPFS_MAGIC && info.Type != unix.RAMFS_MAGIC {
		return fmt.Errorf("services.run_dir %s is not on a tmpfs: tell the administrator", f)
	}
	return hostfile.WriteAs(path, token, 0o600, of)
}

// make makes the job's directory, through which its owner may go and which they cannot read.
func (f NodeFiles) make(job uint32) error {
	if err := hostfile.Make(string(f)); err != nil {
		return err
	}
	if err := os.Mkdir(f.dir(job), 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := hostfile.Check(f.dir(job)); err != nil {
		return err
	}
	return os.Chmod(f.dir(job), 0o711) // whatever the umask is
}

// Remove removes what is kept for a job. Nothing is no error.
func (f NodeFiles) Remove(job uint32) error { return os.RemoveAll(f.dir(job)) }

// Jobs returns the jobs for which something is kept here.
func (f NodeFiles) Jobs() ([]hostfile.File, error) {
	return hostfile.Jobs(string(f), nodeFilesPrefix)
}
