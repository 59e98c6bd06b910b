package faults

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

const (
	jobUID   = 1000
	jobNodes = "c[1-2]"

	// hookDeadline keeps a matrix quick: a fault that lasts costs all of it.
	hookDeadline = 4 * time.Second
	// storageDelay makes a hook wait, and so watch.
	storageDelay = "80ms"
)

// TestHooks runs the matrix of every hook. FAULTS=reset,hang and
// HOOKS=setup,teardown narrow it; FAULTS_ALWAYS=all and FAULTS_VARIANTS=all widen it.
func TestHooks(t *testing.T) {
	selected, err := Select(os.Getenv("FAULTS"))
	require.NoError(t, err)
	sum := &summary{}
	onRabbits, others := worldsFor(os.Getenv("HOOKS"))
	if others {
		w := startWorld(t, dwssim.Options{})
		w.run(t, sum, selected, sitesOf("waiting", number(t, "FAULTS_WAITING", 24)), sitesOf("working", number(t, "FAULTS_WORKING", 4)),
			slices.Concat(w.workflowScenarios(), w.reconcileScenarios(), w.serviceScenarios(), w.nodeScenarios(), w.bundleScenarios()))
	}
	if onRabbits {
		// A hook of these takes more of the machine, and so does the simulator.
		waiting, working := sitesOf("waiting", number(t, "FAULTS_WAITING", 12)), sitesOf("working", number(t, "FAULTS_WORKING", 4))
		w := startWorld(t, dwssim.Options{NNF: rabbits(slices.Concat(waiting, working)...)})
		w.labelRabbits(t, slices.Concat(waiting, working))
		w.run(t, sum, selected, waiting, working, w.storageScenarios())
	}
	sum.write(t)
}

// worldsFor tells whether HOOKS names scenarios of storage on rabbits, and others.
func worldsFor(hooks string) (onRabbits, others bool) {
	for _, name := range strings.Split(hooks, ",") {
		is := strings.HasPrefix(strings.TrimSpace(name), "storage")
		onRabbits, others = onRabbits || is, others || !is
	}
	return onRabbits || hooks == "", others
}

// run runs the matrices of those scenarios that HOOKS names.
func (w *world) run(t *testing.T, sum *summary, selected []Fault, waiting, working []Site, scenarios []Scenario) {
	for _, s := range slices.Concat(waiting, working) {
		require.NoError(t, w.addForeign(t.Context(), s))
	}
	runner := NewRunner(w.config, selected, waiting, working)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go runner.Watch(ctx, w.probe)
	runner.everyVariant = os.Getenv("FAULTS_VARIANTS") == "all"
	runner.everyLasting = os.Getenv("FAULTS_ALWAYS") == "all"

	// All run at once, whatever -parallel says: most of a matrix's time is waiting.
	type finished struct {
		report *Report
		err    error
	}
	results := map[string]chan finished{}
	var order []string
	for _, s := range scenarios {
		if !chosen(s.Name) {
			continue
		}
		done := make(chan finished, 1)
		results[s.Name], order = done, append(order, s.Name)
		go func() {
			began := time.Now()
			report, err := runner.Run(t.Context(), s)
			passed, failed, _ := report.Count()
			fmt.Printf("faults: %s: %d passed, %d failed, %.0f s; done: %s\n%s", s.Name, passed, failed,
				time.Since(began).Seconds(), runner.Progress(), report.Problems())
			done <- finished{report, err}
		}()
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			f := <-results[name]
			sum.add(f.report)
			require.NoError(t, f.err)
			_, failed, _ := f.report.Count()
			assert.Zero(t, failed, "\n%s", f.report)
		})
	}
}

// telling are the faults that find what a variant does in its own way: lost answers,
// lost races, lost rights, lost watches and death. What is tried again, and how, is
// the same everywhere.
var telling = []string{"reset-after", "hang", "409", "403", "kill-before", "kill-after", "watch-cut-0", "watch-gone"}

// number is an environment variable's, or the default.
func number(t *testing.T, variable string, standard int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, variable)
	return n
}

// chosen tells whether HOOKS names the scenario by its beginning.
func chosen(scenario string) bool {
	list := os.Getenv("HOOKS")
	for _, name := range strings.Split(list, ",") {
		if strings.HasPrefix(scenario, strings.TrimSpace(name)) {
			return true
		}
	}
	return list == ""
}

// situation is what a hook finds and what it must leave.
type situation struct {
	name, hook string
	fields     map[string]string
	// at is the state that the job's Workflow was brought to, "" for no Workflow;
	// then asked is what was asked for and not waited for.
	at, asked string
	// after is a hook that has run before, and has left what it knows.
	after string
	// slow is the state in which the storage takes a while.
	slow string
	// earlier makes the Workflow one of an earlier run of the job.
	earlier bool
	foreign bool // the job's name is taken by a Workflow that is not ours
	env     bool // the job's variables were kept
	variant bool // of another situation: only what differs there is tried
	verify  func(c *Job, o *Outcome, end endState) error
	more    func(*Scenario)
}

func (w *world) workflowScenarios() []Scenario {
	var all []Scenario
	for _, s := range []situation{
		{name: "job_process", hook: "slurm_bb_job_process", verify: nothingLeft,
			more: func(s *Scenario) { s.Deadline, s.Hasty = 1500*time.Millisecond, true }},
		{name: "setup", hook: "slurm_bb_setup", slow: "Setup", verify: leaves("Setup")},
		{name: "setup after requeue", variant: true, hook: "slurm_bb_setup", at: "PreRun", earlier: true, verify: leaves("Setup"),
			more: func(s *Scenario) { s.Deadline += hookDeadline / 2 }}, // a teardown and a setup
		{name: "data_in, waiting", hook: "slurm_bb_data_in", at: "Setup", slow: "DataIn", verify: leaves("DataIn")},
		{name: "data_in, polled", variant: true, hook: "slurm_bb_data_in", fields: polled, at: "Setup", slow: "DataIn", verify: leaves("DataIn")},
		{name: "test_data_in", variant: true, hook: "slurm_bb_test_data_in", fields: polled, at: "Setup", asked: "DataIn", slow: "DataIn",
			verify: leaves("DataIn"), more: mayBeBusy},
		{name: "pre_run", hook: "slurm_bb_pre_run", fields: nodes, at: "DataIn", slow: "PreRun", verify: leaves("PreRun", "c1", "c2")},
		{name: "post_run", variant: true, hook: "slurm_bb_post_run", at: "PreRun", slow: "PostRun", verify: leaves("PostRun")},
		{name: "data_out", variant: true, hook: "slurm_bb_data_out", at: "PostRun", slow: "DataOut", verify: leaves("DataOut")},
		{name: "test_data_out", variant: true, hook: "slurm_bb_test_data_out", fields: polled, at: "PostRun", asked: "DataOut", slow: "DataOut",
			verify: leaves("DataOut"), more: mayBeBusy},
		{name: "teardown after setup", hook: "slurm_bb_job_teardown", fields: hurry("false"), at: "Setup", slow: "Teardown", env: true, verify: nothingLeft},
		{name: "teardown of a running job, hurry", variant: true, hook: "slurm_bb_job_teardown", fields: hurry("true"), at: "PreRun", env: true, verify: nothingLeft},
		{name: "teardown after data_out", variant: true, hook: "slurm_bb_job_teardown", fields: hurry("false"), at: "DataOut", env: true, verify: nothingLeft},
		{name: "teardown of nothing", hook: "slurm_bb_job_teardown", fields: hurry("false"), verify: nothingLeft},
		{name: "teardown, name taken", hook: "slurm_bb_job_teardown", fields: hurry("true"), at: "Setup", foreign: true, verify: leaves("Setup")},
		{name: "data_in as setup left it", variant: true, after: "slurm_bb_setup", hook: "slurm_bb_data_in", slow: "DataIn", verify: leaves("DataIn")},
		{name: "post_run as pre_run left it", variant: true, at: "DataIn", after: "slurm_bb_pre_run", fields: nodes, hook: "slurm_bb_post_run", slow: "PostRun",
			verify: leaves("PostRun", "c1", "c2")},
		{name: "teardown as setup left it", variant: true, after: "slurm_bb_setup", hook: "slurm_bb_job_teardown", fields: hurry("true"), slow: "Teardown", verify: nothingLeft},
		{name: "get_status", hook: "slurm_bb_get_status", at: "Setup", verify: leavesStatus,
			more: func(s *Scenario) { s.Deadline, s.Hasty = time.Second, true }},
	} {
		all = append(all, w.scenario(s))
	}
	return all
}

var (
	polled = map[string]string{"BUSY": "true"}
	nodes  = map[string]string{"NODES": jobNodes}
)

func hurry(h string) map[string]string { return map[string]string{"HURRY": h} }

func mayBeBusy(s *Scenario) { s.MayBeBusy = true }

func (w *world) scenario(s situation) Scenario {
	directives := []string{"#DW jobdw type=xfs capacity=1GiB name=faults"}
	if s.slow != "" {
		directives = append(directives, "#DW "+s.slow+" action=complete delay="+storageDelay)
	}
	scenario := Scenario{
		Name: s.name, Deadline: hookDeadline,
		Setup: func(ctx context.Context, c *Job) error { return w.prepare(ctx, c, s, directives) },
		Command: func(c *Job) Command {
			return Command{Argv: []string{w.program, "hook", "-0", s.hook}, Fields: hookFields(c, s.fields)}
		},
		State:   w.endState,
		Foreign: w.foreign,
		Again:   breakerRests,
		Cleanup: w.fixtures.clear,
		Verify:  func(c *Job, o *Outcome, end any) error { return s.verify(c, o, end.(endState)) },
	}
	if s.variant {
		scenario.Only = telling
	}
	if s.more != nil {
		s.more(&scenario)
	}
	return scenario
}

// prepare writes what Slurm and the administrator give a hook, and makes the
// job's Workflow as earlier hooks would have.
func (w *world) prepare(ctx context.Context, c *Job, s situation, directives []string) error {
	if err := configure(c); err != nil {
		return err
	}
	if err := c.Write("script", "#!/bin/sh\n"+strings.Join(directives, "\n")+"\n\nsrun true\n"); err != nil {
		return err
	}
	if s.env {
		if err := os.Mkdir(c.Path("state/job."+strconv.Itoa(c.JobID)), 0o700); err != nil {
			return err
		}
		if err := c.Write("state/job."+strconv.Itoa(c.JobID)+"/env", "DW_JOB_faults=/mnt/nnf\n"); err != nil {
			return err
		}
	}
	if s.at != "" {
		err := w.fixtures.create(ctx, c, s.name, func(ctx context.Context, c *Job) error { return w.make(ctx, c, s, directives) })
		if err != nil {
			return err
		}
	}
	if s.after != "" {
		return w.runBefore(ctx, c, s)
	}
	if s.asked == "" {
		return nil
	}
	return w.ask(ctx, c, s.asked)
}

// runBefore runs the hook before, while the proxy passes all requests.
func (w *world) runBefore(ctx context.Context, c *Job, s situation) error {
	var p process
	o, err := p.Run(ctx, Command{Argv: []string{w.program, "hook", "-0", s.after}, Fields: hookFields(c, s.fields)}, hookDeadline)
	if err == nil && o.Code != CodeOK {
		err = fmt.Errorf("%s: exit status %d: %s", s.after, o.Code, o.Stdout)
	}
	return err
}

// make makes the situation's Workflow by way of DWS.
func (w *world) make(ctx context.Context, c *Job, s situation, directives []string) error {
	restarts := "0"
	if s.earlier {
		restarts = "7"
	}
	annotations := map[string]any{
		"slurmk8s.io/user": "ada", "slurmk8s.io/uid": strconv.Itoa(jobUID), "slurmk8s.io/submit-time": "1700000000",
		"slurmk8s.io/restart-count": restarts, "slurmk8s.io/state-since": time.Now().UTC().Format(time.RFC3339),
	}
	labels := ourLabels(c.Cluster, c.JobID)
	if s.foreign {
		labels, annotations = map[string]any{"origin": "burst_buffer.lua"}, nil
	}
	if err := w.create(ctx, c.Site, c.Name(), labels, annotations, directives); err != nil {
		return err
	}
	return w.bring(ctx, c, s.at)
}

// configure writes the files of /etc/slurm into the job, with a Slurm that
// knows one job.
func configure(c *Job) error {
	for _, dir := range []string{"state", "bin"} {
		if err := os.Mkdir(c.Path(dir), 0o700); err != nil {
			return err
		}
	}
	for command, says := range map[string]string{
		"squeue":   fmt.Sprintf("echo '%d|RUNNING|ada|%s-living,%s'", livingJob, c.Namespace, nodesOf(c)[0]),
		"scontrol": "echo BOOT_TIME = 1; echo NEXT_JOB_ID = 67000000", // it has been up since 1970
		"scancel":  "exit 0",
	} {
		if err := os.WriteFile(c.Path("bin/"+command), []byte("#!/bin/sh\n"+says+"\n"), 0o755); err != nil {
			return err
		}
	}
	if err := c.Write("slurm.conf", "ClusterName="+c.Cluster+"\nSlurmUser=root\n"); err != nil {
		return err
	}
	return c.Write("slurmk8s.toml", fmt.Sprintf(`
cluster = %q
slurm_conf = %q
slurm_bin_dir = %q
state_dir = %q
[kubernetes]
kubeconfig = %q
request_timeout = "1s"
[log]
level = "debug"
file = %q
[reconcile]
min_age = "0s"
[workflows]
namespace = %q
busy_wait = "2s"
`, c.Cluster, c.Path("slurm.conf"), c.Path("bin"), c.Path("state"), c.Kubeconfig, c.LogFile(), c.Namespace))
}

// hookFields is what Slurm tells every hook, and what it tells this one.
func hookFields(c *Job, more map[string]string) map[string]string {
	uid, job := strconv.Itoa(jobUID), strconv.Itoa(c.JobID)
	fields := map[string]string{
		"CONFIG": c.Path("slurmk8s.toml"), "STATE_DIR": c.Path("state"),
		"DEADLINE_MS": strconv.FormatInt(c.Deadline.Milliseconds(), 10),
		"JOB_ID":      job, "UID": uid, "GID": uid, "USER_NAME": "ada", "SCRIPT": c.Path("script"),
		"RESTART_COUNT": "0", "SUBMIT_TIME": "1700000000",
		"ARG1": "workflow", "ARG2": job,
	}
	for k, v := range more {
		fields[k] = v
	}
	return fields
}

// breakerRests is the breaker's 30 s, passed.
func breakerRests(c *Job) error {
	if err := os.Remove(c.Path("state/breaker")); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func nothingLeft(_ *Job, _ *Outcome, end endState) error {
	if end.Exists || len(end.Computes) > 0 || len(end.Files) > 0 {
		return fmt.Errorf("something is left")
	}
	return nil
}

func leaves(state string, computes ...string) func(*Job, *Outcome, endState) error {
	return func(_ *Job, _ *Outcome, end endState) error {
		if end.DesiredState != state || fmt.Sprint(end.Computes) != fmt.Sprint(computes) {
			return fmt.Errorf("want a Workflow in %s with Computes %v", state, computes)
		}
		return nil
	}
}

func leavesStatus(c *Job, o *Outcome, end endState) error {
	reply, err := o.Reply()
	if err != nil {
		return err
	}
	if want := "desiredState=Setup currentState=Setup status=Completed"; !strings.HasPrefix(reply["TEXT"], want) {
		return fmt.Errorf("TEXT is %q, want %s first", reply["TEXT"], want)
	}
	return leaves("Setup")(c, o, end)
}
