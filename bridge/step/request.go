package step

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// request is what the plugin asks for, checked as far as it goes by itself.
type request struct {
	job       job.Job // without its cluster
	gid       uint32
	groups    []uint32 // nil: Slurm does not tell
	step      string
	node      string
	rank      uint32
	inherited bool // the options are those of a task of the job
	specs     []service.Spec
	imports   []service.Import
	namespace string
}

func parseRequest(fields wire.Fields) (*request, error) {
	r := &request{
		step: fields[wire.KeyStepID], node: fields[wire.KeyNode], namespace: fields[wire.KeyNamespace],
		inherited: fields[wire.KeyInherited] != "",
	}
	r.job.SubmitTime = fields[wire.KeySubmitTime]
	for _, number := range []struct {
		key  string
		must bool
		to   *uint32
	}{
		{wire.KeyJobID, true, &r.job.ID}, {wire.KeyUID, true, &r.job.UID}, {wire.KeyGID, true, &r.gid},
		{wire.KeyNodeRank, false, &r.rank}, {wire.KeyRestart, false, &r.job.Restarts},
	} {
		text := fields[number.key]
		if text == "" && !number.must {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s=%q is not a number", number.key, text)
		}
		*number.to = uint32(n)
	}
	if r.job.ID == 0 {
		return nil, fmt.Errorf("%s=0 is not a job id", wire.KeyJobID)
	}
	if _, err := strconv.ParseUint(r.step, 10, 32); err != nil && !r.allocationWide() {
		return nil, fmt.Errorf("%s=%q is not a step", wire.KeyStepID, r.step)
	}
	if r.node == "" || strings.ContainsAny(r.node, " /\n") {
		return nil, fmt.Errorf("%s=%q is not a node", wire.KeyNode, r.node)
	}
	for text := range strings.SplitSeq(fields[wire.KeyGroups], ",") {
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s=%q is not a list of groups", wire.KeyGroups, fields[wire.KeyGroups])
		}
		r.groups = append(r.groups, uint32(n))
	}
	return r, r.parseOptions(fields)
}

// allocationWide tells whether the step lasts as long as the job.
func (r *request) allocationWide() bool { return r.step == "batch" || r.step == "interactive" }

func (r *request) parseOptions(fields wire.Fields) (err error) {
	if r.namespace != "" {
		if err := service.CheckNamespace(r.namespace); err != nil {
			return &job.Refused{Text: "--k8s-namespace: " + err.Error(), Err: err}
		}
	}
	if text := fields[wire.KeyRegister]; text != "" {
		env, err := fields.Env(), error(nil)
		if r.step == "batch" {
			if err = addExports(env, fields[wire.KeyScript], r.job.UID); err != nil {
				return err
			}
		}
		parse := service.Parse
		if r.allocationWide() {
			parse = service.ParseEarly
		}
		if r.specs, err = parse(text, env); err != nil {
			return err
		}
	}
	if text := fields[wire.KeyImport]; text != "" && !(r.inherited && text == fields[wire.KeyImported]) {
		r.imports, err = service.ParseImports(text)
	}
	return err
}

// maxScriptBytes bounds a batch script; Slurm's own bound is 4 MB by default.
const maxScriptBytes = 16 << 20

// addExports adds what the batch script exports by literal lines, which count more
// than what it is given. The file is in a directory of the user's, so that it is
// read only if it is a file of theirs and no link.
func addExports(env map[string]string, path string, uid uint32) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("read the job script: %w", err)
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fmt.Errorf("read the job script: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Uid != uid && stat.Uid != 0 || stat.Nlink != 1 {
		return fmt.Errorf("read the job script: %s is not a file of the job's owner", path)
	}
	script, err := io.ReadAll(io.LimitReader(f, maxScriptBytes))
	if err != nil {
		return fmt.Errorf("read the job script: %w", err)
	}
	for name, value := range service.Exports(script) {
		env[name] = value
	}
	return nil
}

// subject is the user as the policy knows them.
func (s *session) subject(ctx context.Context) (*policy.Subject, error) {
	name, err := users.Name(ctx, s.req.job.UID)
	if err != nil {
		return nil, err
	}
	s.req.job.User = name
	return &policy.Subject{
		User: s.req.job.User, UID: s.req.job.UID, GID: s.req.gid, Groups: s.req.groups,
		Account: func(ctx context.Context) (string, error) { return s.slurm().Account(ctx, s.req.job.ID) },
	}, nil
}
