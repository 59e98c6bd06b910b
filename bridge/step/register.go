package step

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/address"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func (s *session) slurm() slurm.Commands {
	return slurm.Commands{Dir: s.cfg.SlurmBinDir, Conf: s.cfg.SlurmConf}
}

// open reads the configuration and begins the log.
func (s *session) open() error {
	path := s.fields[wire.KeyConfig]
	if path == "" {
		path = slurmconf.DefaultPath
	}
	var err error
	if s.cfg, err = slurmconf.Load(path); err != nil {
		return err
	}
	s.records = service.Records(s.cfg.Services.RunDir)
	logger, sink, err := logging.New(s.cfg)
	if err != nil {
		return err
	}
	s.sink = sink
	s.log = logger.WithFields(logrus.Fields{"hook": "step", "job": s.fields[wire.KeyJobID], "uid": s.fields[wire.KeyUID], "step": s.fields[wire.KeyStepID]})
	if s.options.Hardened != nil {
		s.log.Warn(s.options.Hardened)
	}
	return nil
}

// register does all that comes before the first task, within the deadline, and
// returns the variables for the job's environment.
func (s *session) register(ctx context.Context) (map[string]string, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit(s.fields))
	defer cancel()
	var err error
	if s.req, err = parseRequest(s.fields); err != nil {
		return nil, err
	}
	s.req.job.Cluster = s.cfg.Cluster
	env := map[string]string{}
	if s.fields[wire.KeyWorkflow] != "" {
		client, err := s.client()
		if err != nil {
			return nil, err
		}
		if err := s.storage(ctx, client, env); err != nil {
			return nil, err
		}
	}
	if len(s.req.specs)+len(s.req.imports) == 0 {
		return env, nil
	}
	return env, s.registerServices(ctx, env)
}

// registerServices judges what the user asks for, and does it.
func (s *session) registerServices(ctx context.Context, env map[string]string) error {
	who, err := s.subject(ctx)
	if err != nil {
		return err
	}
	rules, err := policy.For(ctx, &s.cfg.Services, who)
	if err != nil {
		return err
	}
	s.rules = rules
	if len(s.req.specs) > 0 {
		if s.req.specs, err = s.named(ctx); err != nil {
			return err
		}
		if s.specs, err = rules.Admit(s.req.specs, s.req.namespace); err != nil {
			return err
		}
	}
	for i := range s.req.imports {
		if s.req.imports[i].Namespace, err = rules.Namespace(s.req.imports[i].Namespace, s.req.namespace); err != nil {
			return err
		}
	}
	mine := s.mine()
	if err := s.records.ChoosePorts(ctx, s.req.job.ID, mine, rules.MayUse); err != nil {
		return err
	}
	maps.Copy(env, variables(s.specs))
	if len(mine)+len(s.req.imports) == 0 {
		return nil
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	resolver := &service.Resolver{Kube: client, Log: s.log}
	for _, i := range s.req.imports {
		vars, err := resolver.Resolve(ctx, i)
		if err != nil {
			return err
		}
		maps.Copy(env, vars)
		env[variableImport] = s.fields[wire.KeyImport]
	}
	if len(mine) == 0 {
		return nil
	}
	return s.registerMine(ctx, client, mine, rules)
}

// named are the services with the names that they have in this job.
func (s *session) named(ctx context.Context) ([]service.Spec, error) {
	s.of = service.Instance{Job: s.req.job.ID, User: s.req.job.User}
	if !service.NeedsArray(s.req.specs) {
		s.of.Array, _ = slurm.ArrayNumber(s.fields[wire.KeyArrayJob]) // for advice
		return service.Expand(s.req.specs, s.of)
	}
	var err error
	if s.of.Array, s.of.Task, err = s.arrayTask(ctx); err != nil {
		return nil, err
	}
	return service.Expand(s.req.specs, s.of)
}

// arrayTask is the job's place in its array; 0 if it is in none. What the step was told
// saves asking Slurm: a user who tells a step something else gets another name, which is
// judged as any. What host=array shares has the array's id: that a user tells is not enough.
func (s *session) arrayTask(ctx context.Context) (array, task uint32, err error) {
	array, arrayErr := slurm.ArrayNumber(s.fields[wire.KeyArrayJob])
	task, taskErr := slurm.ArrayNumber(s.fields[wire.KeyArrayTask])
	shares := slices.ContainsFunc(s.req.specs, func(spec service.Spec) bool { return spec.Array })
	if arrayErr == nil && (array == 0 || taskErr == nil) && (s.req.step == "batch" || !shares) {
		return array, task, nil
	}
	if array, task, err = s.slurm().ArrayTask(ctx, s.req.job.ID); err != nil {
		return 0, 0, fmt.Errorf("the job's place in its array: %w", err)
	}
	return array, task, nil
}

// mine are the services that this node registers: those for all nodes, and on the
// first node of the step the others.
func (s *session) mine() []service.Spec {
	var mine []service.Spec
	for _, spec := range s.specs {
		if spec.AllNodes || s.req.rank == 0 {
			mine = append(mine, spec)
		}
	}
	return mine
}

func (s *session) registerMine(ctx context.Context, client *kube.Client, mine []service.Spec, rules *policy.Policy) error {
	first, second, err := address.Finder{}.FindBoth(ctx, s.cfg, s.req.node)
	if err != nil {
		return err
	}
	as, err := s.clientAsUser()
	if err != nil {
		return err
	}
	names := make([]string, len(mine))
	for i, spec := range mine {
		names[i] = spec.Namespace + "/" + spec.Name
	}
	// The record is there before the first object, so that the epilog looks for it.
	err = s.records.Add(ctx, s.req.job.ID, s.req.step, names, func(others []string) error { return rules.Count(mine, others) })
	if err != nil {
		return err
	}
	s.registrar = &service.Registrar{
		Kube: client, As: as, Job: s.req.job, Step: s.req.step, Node: s.req.node, Address: first, Second: second, Array: s.of.Array, Task: s.of.Task,
		LeaseDuration: 3 * s.cfg.Services.RenewInterval.Std(), Alive: s.alive, Holder: s.holder, Wanted: s.wanted,
		Events: kube.NewEvents(client, s.req.node), Log: s.log,
	}
	s.regs, err = s.registrar.Register(ctx, mine)
	if err != nil && s.req.inherited && len(s.regs) == 0 && wire.CodeOf(err) != wire.Refused {
		s.regs = s.registrar.Postpone(mine)
		s.notice = wire.Line(fmt.Sprintf("slurmk8s: the step starts, but the job's registration of %s cannot be looked up now: %v", strings.Join(names, ", "), err))
		s.log.Warn(s.notice)
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.countOfAllNodes(ctx, rules, mine); err != nil {
		return err
	}
	return s.records.Hold(ctx, s.req.job.ID, mine)
}

// countOfAllNodes refuses what was just made if the job has too much now, with what other
// nodes made, of which no record here knows. The count comes afterwards, so that of two nodes
// at once one sees both.
func (s *session) countOfAllNodes(ctx context.Context, rules *policy.Policy, mine []service.Spec) error {
	// In a batch script's environment this is Slurm's word, in that of a step the user's.
	if s.req.step == "batch" && s.fields[wire.KeyNodeList] == s.req.node {
		return nil
	}
	others, err := s.registrar.OfJob(ctx, s.regs)
	if err != nil {
		return err
	}
	return rules.Count(mine, others)
}

func (s *session) client() (*kube.Client, error) { return s.clientAs(nil) }

// clientAsUser impersonates the job's user in Kubernetes; nil if the site does not.
func (s *session) clientAsUser() (*kube.Client, error) {
	as, err := kube.IdentityOf(s.cfg.Services.Impersonate, s.cfg.Services.ImpersonateGroups, s.req.job.User, s.req.node)
	if as == nil || err != nil {
		return nil, err
	}
	return s.clientAs(as)
}

func (s *session) clientAs(as *kube.Identity) (*kube.Client, error) {
	return kube.For(s.cfg, s.cfg.Services.Kubeconfig, fmt.Sprintf("job %d; node %s", s.req.job.ID, s.req.node), s.log, kube.As(as))
}

// alive tells whether the maker of a service lives: a step of this job by its
// program or the Lease, another job by Slurm, and by the Lease where Slurm does
// not answer.
func (s *session) alive(ctx context.Context, c service.Claim) (bool, error) {
	if c.ID == s.req.job.ID {
		switch {
		case c.UID != s.req.job.UID:
			return false, nil // ids repeat
		case c.Restarts > s.req.job.Restarts:
			return true, nil // we are the run that is over
		case c.Node == s.req.node:
			return s.records.Alive(c.ID, c.Step), nil
		}
		return c.Renewed, nil
	}
	asking, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	running, err := s.slurm().Running(asking, c.ID)
	if err != nil {
		s.log.Warnf("using the Lease to tell whether job %d has ended: %v", c.ID, err)
		return c.Renewed, nil
	}
	return running, nil
}

// holder is another step of the job on this node that has registered the service.
func (s *session) holder(spec service.Spec) string {
	return s.records.Holder(s.req.job.ID, s.req.step, spec)
}

// wanted tells whether another step of the job on this node has the service too.
func (s *session) wanted(spec service.Spec) bool {
	return s.records.Wanted(s.req.job.ID, s.req.step, spec.Namespace+"/"+spec.Name)
}

// limit is what the plugin grants: plugstack.conf says how long Slurm waits. Run by hand,
// or when slurmstepd was killed, nobody waits.
func limit(fields wire.Fields) time.Duration { return cmp.Or(fields.Granted(), 15*time.Second) }

// variableImport has the value of --k8s-import whose variables are in the same environment, so
// that an srun that inherits both asks for nothing. It does not begin with SLURM: srun sends
// all of these even with --export=NONE, and the variables of the import would be missing.
const variableImport = "K8S_IMPORTED"

// variables tell the job under which names pods reach it, and which ports of the node were
// chosen for it.
func variables(specs []service.Spec) map[string]string {
	env := map[string]string{}
	for _, s := range specs {
		name := service.Variable(s.Name)
		for _, p := range s.Ports {
			if p.Name == "" {
				continue
			}
			name := name + "_" + service.Variable(p.Name)
			env["SLURMK8S_SERVICE_"+name] = fmt.Sprintf("%s:%d", s.Host(), p.Port)
			if p.Auto && p.Target != 0 {
				env["SLURMK8S_PORT_"+name] = fmt.Sprint(p.Target)
			}
		}
	}
	for _, s := range specs { // after the ports: a service "a-b" comes before the port "b" of "a"
		env["SLURMK8S_SERVICE_"+service.Variable(s.Name)] = fmt.Sprintf("%s:%d", s.Host(), s.Ports[0].Port)
		if first := s.Ports[0]; first.Auto && first.Target != 0 {
			env["SLURMK8S_PORT_"+service.Variable(s.Name)] = fmt.Sprint(first.Target)
		}
	}
	return env
}

func (s *session) summary() string {
	if len(s.regs) == 0 {
		return " nothing on this node"
	}
	return strings.TrimSuffix(service.Summary(s.regs), " ")
}
