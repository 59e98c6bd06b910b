package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/docs"
)

// way is how commands of the documentation are run, from its own text.
type way struct {
	commands string // a regexp of whole commands
	in       place
	// before makes true what the reader has by then: files, and what JOBID and the like stand for.
	before func(*docsRun)
	after  func(*docsRun)
	// instead is put behind a command that would take the test's own ground away, so that it only
	// says what it would do.
	instead string
	mayEnd  []int // exit statuses besides 0
}

// ways come first to last: the first that matches a command counts.
var ways = []way{
	{commands: `cat \S+`, in: login},
	{commands: `sbatch job\.sh`, in: login, before: (*docsRun).holdJobs, after: (*docsRun).adoptSubmitted},
	{commands: `sbatch --k8s-register=jupyter:8888 notebook\.sh`, in: login, before: (*docsRun).holdJobs, after: (*docsRun).isService},
	{commands: `srun .*\./simulate`, in: login, before: (*docsRun).letJobsGo},
	{commands: `salloc .*\./simulate`, in: login, before: (*docsRun).letJobsGo},
	{commands: `scontrol show bbstat workflow 42`, in: login, after: (*docsRun).letJobsGo},
	{commands: `scontrol show bbstat workflow JOBID`, in: login, before: (*docsRun).storageJob},
	{commands: `scontrol show (job|config)`, in: login},
	{commands: `scancel --hurry JOBID`, in: login, before: (*docsRun).storageJob},
	{commands: `scontrol release JOBID`, in: controller, before: (*docsRun).heldJob},
	{commands: `scontrol update JobId=JOBID ExcNodeList=`, in: controller, before: (*docsRun).heldJob, after: (*docsRun).cancel},
	{commands: `scontrol requeue JOBID`, in: controller, before: (*docsRun).runningJob, after: (*docsRun).cancel},

	// 1: doctor has warnings for the test cluster. Its timer is the page's own line for cron.
	{commands: `slurmk8s doctor( --json)?`, in: controller, before: (*docsRun).hasCron, mayEnd: []int{1}},
	{commands: `slurmk8s status`, in: controller, before: (*docsRun).storageAndService},
	{commands: `slurmk8s status --json`, in: controller},
	{commands: `slurmk8s status \[?JOBID\]?`, in: controller, before: (*docsRun).storageJob},
	{commands: `slurmk8s cleanup (--dry-run |--force )?JOBID`, in: controller, before: (*docsRun).overJob},
	{commands: `(/opt/slurmk8s/bin/)?slurmk8s reconcile( --dry-run| --force)?`, in: slurmUser},
	{commands: `slurmk8s setup --renew`, in: controller},
	{commands: `slurmk8s setup --kubeconfig admin\.conf --dry-run`, in: controller},
	{commands: `slurmk8s setup --renew --kubeconfig admin\.conf --output DIR`, in: controller, before: (*docsRun).keepCredential},
	{commands: `sudo -u slurm slurmk8s hook slurm_bb_job_process SCRIPT=job\.sh .*`, in: slurmUser},

	{commands: `kubectl apply -f packaging/manifests/\S+\.yaml`, in: administrator},
	{commands: `kubectl uncordon NODE; kubectl cordon NODE`, in: administrator, after: (*docsRun).uncordon},
	{commands: `kubectl (get|describe) node NODE( -o yaml)?`, in: administrator},
	{commands: `kubectl label namespace NS \S+`, in: administrator, before: (*docsRun).openNamespace},
	{commands: `kubectl -n slurm delete serviceaccount slurmk8s-controller`, in: administrator, instead: "--dry-run=server"},

	{commands: `(make( all)? && sudo )?make install`, in: administrator, after: (*docsRun).isInstalled},
	{commands: `make help`, in: administrator},
	{commands: `make cluster-down`, in: nowhere},
	{commands: `make test-api KUBERNETES=1\.33`, in: administrator, instead: "--dry-run"},
	{commands: `sudo install -d -o slurm .*`, in: byHand},
	{commands: `ln -s .*`, in: byHand},
}

// elsewhere are commands that something else runs: CI and the make targets, the tests of the
// packages, or Slurm itself.
var elsewhere = []string{
	// .ci/run, and the targets that it makes
	`make deps all spank`,
	`make demo`,
	`make test`,
	`make bench`,
	`make test-releases`,

	// make test-packages
	`make packages`,
	`make packages SLURM_RELEASES=.*`,
	`make packages SYSCONFDIR=.*`,
	`make test-packages`,
	`apt install .*`,
	`apt purge 'slurmk8s\*'`,
	`slurmk8s setup --kubeconfig admin\.conf --output /root/slurmk8s --write-slurm-conf`,
	`slurmk8s setup( --kubeconfig admin\.conf --overwrite)?`,
	`systemctl enable --now slurmk8s-reconcile\.timer`,
	`install -m 0600 /root/slurmk8s/nodes/NODE/\* /etc/slurm/`,
	`systemctl restart slurmctld slurmd`,

	// make test-api
	`slurmk8s storage( \[NAME\])?`,
	`slurmk8s setup --print-nodes`,
	`scontrol show bbstat bundle JOBID`,

	// Slurm, in all tests of jobs
	`slurmk8s hook( k8s_(check|submit))?`,
	`slurmk8s step`,

	// node_mirror_test.go, of which nodes.md names parts of commands
	`scontrol update State=RESUME`,
	`scontrol show node`,
	`kubectl uncordon`,
	`slurmk8s reconcile --unmirror`,

	// bridge/cmd/slurmk8s, which has a bundle of its own, and bridge/bundle for the shipped ones
	`slurmk8s bundle (list|show NAME|check DIR|render NAME KEY=VALUE)`,
	`slurmk8s bundle (up|diff|down) \S+ ns=\S+( deploy='0 \d \* \* \*')?( delete='0 17 \* \* \*')? --kubeconfig \S+`,

	`journalctl -t slurmk8s`, // containers have no journal; bridge/logging shows what goes to it
}

// whole says whether a pattern is of the whole command.
func whole(pattern, command string) bool {
	return regexp.MustCompile(`^(` + pattern + `)$`).MatchString(command)
}

func documentation(t *testing.T) []docs.Page {
	t.Helper()
	pages, err := docs.Read("../..")
	require.NoError(t, err)
	return pages
}

func wayOf(command string) *way {
	for i := range ways {
		if whole(ways[i].commands, command) {
			return &ways[i]
		}
	}
	return nil
}

// A new command of a page has to be run here, or to be listed as run elsewhere.
func TestNoCommandOfTheDocumentationIsUntested(t *testing.T) {
	used := map[string]bool{}
	for _, page := range documentation(t) {
		assert.Empty(t, page.Hidden(), "%s: commands in a block that is neither sh nor console", page.Name)
		for _, c := range page.Commands() {
			if w := wayOf(c.Text); w != nil {
				used[w.commands] = true
				continue
			}
			listed := slices.IndexFunc(elsewhere, func(pattern string) bool { return whole(pattern, c.Text) })
			if assert.GreaterOrEqual(t, listed, 0, "%s: %q: say in ways how to run it, or list it in elsewhere", page.Name, c.Text) {
				used[elsewhere[listed]] = true
			}
		}
	}
	for _, w := range ways {
		assert.True(t, used[w.commands], "no page has a command such as %s", w.commands)
	}
	for _, pattern := range elsewhere {
		assert.True(t, used[pattern], "no page has a command such as %s", pattern)
	}
}

// It is alone: jobs take whole nodes, and slurmk8s status shows all that there is.
func TestCommandsOfTheDocumentationWork(t *testing.T) {
	shareNodes(t)
	r := newDocsRun(t)
	done := map[string]bool{}
	for _, page := range r.pages {
		t.Run(page.Name, func(t *testing.T) {
			r.t = t
			for _, c := range page.Commands() {
				w := wayOf(c.Text)
				if w == nil || done[c.Text] && c.Output == "" {
					continue
				}
				done[c.Text] = true
				r.try(c, w)
			}
			for _, script := range page.Scripts() {
				r.submitScript(script)
			}
		})
	}
}

// try runs a command and compares what it says with what the page shows.
func (r *docsRun) try(c docs.Command, w *way) {
	r.t.Helper()
	if file, isFile := strings.CutPrefix(c.Text, "cat "); isFile {
		r.file(file, c.Output) // the page shows what is in it
	}
	if w.before != nil {
		w.before(r)
	}
	command := strings.TrimSpace(r.fill(c.Text) + " " + w.instead)
	// Who types it is there already: no container has sudo.
	r.result = w.in(r, strings.ReplaceAll(strings.ReplaceAll(command, "sudo -u slurm ", ""), "sudo ", ""))
	said := r.result.Stdout + r.result.Stderr
	r.t.Logf("$ %s\n%s", command, said)
	require.Contains(r.t, append(w.mayEnd, 0), r.result.Status, "%s: %s", command, said)
	for line := range strings.Lines(c.Output) {
		require.Regexp(r.t, like(r.fill(line)), said, "%s: the page shows %q", command, line)
	}
	if w.after != nil {
		w.after(r)
	}
}

var (
	keyValue = regexp.MustCompile(`^(\w+=)[\w.]+$`)
	age      = regexp.MustCompile(`\d+[smhd]\b`)
	number   = regexp.MustCompile(`\d+`)
)

// anAge stands for an age until the numbers are loosened.
const anAge = "\x00"

// like is the regexp of a line of output as a page shows it: numbers, ages, spaces and the values
// of NAME=VALUE are those of another day, and "..." stands for more.
func like(shown string) string {
	var words []string
	for _, word := range strings.Fields(shown) {
		if word == "..." {
			words = append(words, ".*")
			continue
		}
		if found := keyValue.FindStringSubmatch(word); found != nil {
			words = append(words, regexp.QuoteMeta(found[1])+`\S*`)
			continue
		}
		word = age.ReplaceAllString(regexp.QuoteMeta(word), anAge)
		word = number.ReplaceAllString(word, `\d+`)
		words = append(words, strings.ReplaceAll(word, anAge, `\d+[smhd]\w*`))
	}
	return `(?m)^\s*` + strings.Join(words, `\s+`)
}

func TestOutputIsComparedButForNumbersAndAges(t *testing.T) {
	const got = "JOB  OBJECT\n9871  lease jobs/slurm-hpc-9871  renewed 12s ago  2m30s\nstate=DataIn ready=true  more=1\n"
	for shown, same := range map[string]bool{
		"12  lease jobs/slurm-hpc-12  renewed 9s ago 3m": true,
		"state=PreRun ready=false ...":                   true,
		"JOB OBJECT":                                     true,
		"12  lease jobs/slurm-x-12  renewed 9s ago 3m":   false,
		"ready=true":                                     false,
		"OBJECT":                                         false,
		"12  lease":                                      true,
	} {
		assert.Equal(t, same, regexp.MustCompile(like(shown)).MatchString(got), fmt.Sprintf("%q", shown))
	}
}
