package hook

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestAHookThatIsUnknown(t *testing.T) {
	code, reply := Run(t.Context(), "slurm_bb_"+strings.Repeat("x\n", 5000), nil)
	assert.Equal(t, wire.Failed, code)
	oneLine(t, reply[wire.KeyMessage])
	assert.Contains(t, reply[wire.KeyMessage], `slurmk8s has no hook "slurm_bb_x`)
}

func TestNamesAreSlurmsOwnAndInOrder(t *testing.T) {
	assert.Equal(t, []string{
		"k8s_check", "k8s_epilog_slurmctld", "k8s_job_epilog", "k8s_job_prolog", "k8s_prolog_slurmctld", "k8s_submit",
		"slurm_bb_data_in", "slurm_bb_data_out", "slurm_bb_get_status", "slurm_bb_job_process", "slurm_bb_job_teardown",
		"slurm_bb_post_run", "slurm_bb_pre_run", "slurm_bb_setup", "slurm_bb_test_data_in", "slurm_bb_test_data_out",
	}, Names())
}

func TestFieldsThatAreMissingOrWrong(t *testing.T) {
	s := newSite(t, "/nonexistent/kubeconfig", "")
	tests := []struct {
		name, hook string
		change     func(f wire.Fields)
		want       string
	}{
		{"no script", "slurm_bb_job_process", func(f wire.Fields) { delete(f, wire.KeyScript) }, "the hook was called without SCRIPT"},
		{"no job id", "slurm_bb_setup", func(f wire.Fields) { delete(f, wire.KeyJobID) }, "the hook was called without JOB_ID"},
		{"empty job id", "slurm_bb_data_in", func(f wire.Fields) { f[wire.KeyJobID] = "" }, "the hook was called without JOB_ID"},
		{"no uid", "slurm_bb_setup", func(f wire.Fields) { delete(f, wire.KeyUID) }, "the hook was called without UID"},
		{"job id in words", "slurm_bb_setup", func(f wire.Fields) { f[wire.KeyJobID] = "12_3" }, `JOB_ID="12_3" is not a number`},
		{"job id that is negative", "slurm_bb_setup", func(f wire.Fields) { f[wire.KeyJobID] = "-1" }, `is not a number`},
		{"uid of 33 bits", "slurm_bb_setup", func(f wire.Fields) { f[wire.KeyUID] = "4294967296" }, `UID="4294967296" is not a number`},
		{"job id with a line feed", "slurm_bb_setup", func(f wire.Fields) { f[wire.KeyJobID] = "1\n2" }, `JOB_ID="1\n2" is not a number`},
		{"job id zero", "slurm_bb_data_in", func(f wire.Fields) { f[wire.KeyJobID] = "0" }, `JOB_ID`},
		{"nodes that are no hostlist", "slurm_bb_pre_run", func(f wire.Fields) { f[wire.KeyNodes] = "c[1-" }, "hostlist"},
		{"another state directory", "slurm_bb_setup", func(f wire.Fields) { f[wire.KeyStateDir] = "/var/spool/other" },
			"state_dir of burst_buffer.lua is /var/spool/other"},
		{"a script that is not there", "slurm_bb_setup", func(f wire.Fields) { f[wire.KeyScript] = "/nonexistent/script" }, "read the job script: open /nonexistent/script"},
		{"bbstat without words", "slurm_bb_get_status", func(wire.Fields) {}, "usage: scontrol show bbstat workflow JOBID"},
		{"bbstat of something else", "slurm_bb_get_status", func(f wire.Fields) { f["ARG1"], f["ARG2"] = "job", "1" }, "usage: scontrol show bbstat workflow JOBID"},
		{"bbstat with too many words", "slurm_bb_get_status", func(f wire.Fields) { f["ARG1"], f["ARG2"], f["ARG3"] = "workflow", "1", "2" }, "usage"},
		{"bbstat of no job id", "slurm_bb_get_status", func(f wire.Fields) { f["ARG1"], f["ARG2"] = "workflow", "; $(x)" }, `"; $(x)" is not a job id`},
		{"bbstat of job zero", "slurm_bb_get_status", func(f wire.Fields) { f["ARG1"], f["ARG2"] = "workflow", "0" }, `"0" is not a job id`},
		{"PrologSlurmctld without a job", "k8s_prolog_slurmctld", func(f wire.Fields) { delete(f, wire.KeyJobID) }, "the hook was called without JOB_ID"},
		{"EpilogSlurmctld with nodes that are no hostlist", "k8s_epilog_slurmctld", func(f wire.Fields) { f[wire.KeyNodeList] = "c[1-" }, "hostlist"},
		{"no kubeconfig", "slurm_bb_setup", func(wire.Fields) {}, "/nonexistent/kubeconfig"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := s.fields(script)
			tt.change(f)
			code, reply := Run(t.Context(), tt.hook, f)
			assert.Equal(t, wire.Failed, code)
			oneLine(t, reply[wire.KeyMessage])
			assert.Contains(t, reply[wire.KeyMessage], tt.want)
		})
	}
}

func TestAStateDirectoryIsComparedAsAPath(t *testing.T) {
	s := newSite(t, "/nonexistent/kubeconfig", `submit = "local"`)
	code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields(script, "STATE_DIR="+s.state+"/"))
	assert.Equal(t, wire.OK, code, reply)
}

func TestAConfigurationThatIsWrongIsToldInOneLine(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a key that does not exist names the nearest one", "[workflows]\nsubmitt = \"local\"\n", "submit"},
		{"not TOML", "cluster = \n", "slurmk8s.toml:1: "},
		{"a value that is wrong", "[workflows]\nbreaker = \"-1s\"\n", "workflows.breaker"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, "/nonexistent/kubeconfig", "")
			s.write("slurmk8s.toml", tt.text)
			code, reply := Run(t.Context(), "slurm_bb_setup", s.fields(script))
			assert.Equal(t, wire.Failed, code)
			oneLine(t, reply[wire.KeyMessage])
			assert.Contains(t, reply[wire.KeyMessage], s.config)
			assert.Contains(t, reply[wire.KeyMessage], tt.want)
		})
	}
	t.Run("not there", func(t *testing.T) {
		code, reply := Run(t.Context(), "slurm_bb_setup", wire.Fields{wire.KeyConfig: "/nonexistent/slurmk8s.toml"})
		assert.Equal(t, wire.Failed, code)
		assert.Contains(t, reply[wire.KeyMessage], "/nonexistent/slurmk8s.toml")
	})
	t.Run("writable by others", func(t *testing.T) {
		s := newSite(t, "/nonexistent/kubeconfig", "")
		require.NoError(t, os.Chmod(s.config, 0o666))
		_, reply := Run(t.Context(), "slurm_bb_setup", s.fields(script))
		assert.Contains(t, reply[wire.KeyMessage], "chmod go-w")
	})
}

func TestTheDeadlineOfAHook(t *testing.T) {
	tests := []struct {
		name, hook, granted string
		change              func(c *call)
		want                time.Duration
	}{
		{"Slurm's limit less the margin", "slurm_bb_setup", "", nil, 298 * time.Second},
		{"of stage-in", "slurm_bb_data_in", "", nil, time.Hour - 2*time.Second},
		{"of stage-out", "slurm_bb_test_data_out", "", nil, 2*time.Hour - 2*time.Second},
		{"the caller grants less", "slurm_bb_setup", "1500", nil, 1500 * time.Millisecond},
		{"the caller grants more than Slurm", "slurm_bb_setup", "9999999", nil, 298 * time.Second},
		{"a grant that overflows", "slurm_bb_setup", "9223372036854775807", nil, 298 * time.Second},
		{"a grant that is none", "slurm_bb_setup", "soon", nil, 298 * time.Second},
		{"a grant of nothing", "slurm_bb_setup", "0", nil, 298 * time.Second},
		{"a negative grant", "slurm_bb_setup", "-5", nil, 298 * time.Second},
		{"submission: the caller's, however short", "slurm_bb_job_process", "50", nil, 50 * time.Millisecond},
		{"submission: the caller's, however long", "k8s_submit", "4800", nil, 4800 * time.Millisecond},
		{"bbstat: the caller's", "slurm_bb_get_status", "700", nil, 700 * time.Millisecond},
		{"a check by hand", "k8s_check", "", nil, 10 * time.Second},
		{"a limit of Slurm's below the margin", "slurm_bb_setup", "",
			func(c *call) { c.burstBuffer.OtherTimeout = time.Second }, 500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &call{request: wire.Fields{}, cfg: slurmconf.Default(), burstBuffer: &slurmconf.BurstBuffer{
				OtherTimeout: 300 * time.Second, StageInTimeout: time.Hour, StageOutTimeout: 2 * time.Hour}}
			if tt.change != nil {
				tt.change(c)
			}
			if tt.granted != "" {
				c.request[wire.KeyDeadlineMS] = tt.granted
			}
			assert.Equal(t, tt.want, table[tt.hook].within(c))
		})
	}
}

func TestEveryHookEndsByItsDeadlineWhenNothingIsAnswered(t *testing.T) {
	server := hung(t)
	for _, name := range Names() {
		if !strings.HasPrefix(name, "slurm_bb_") {
			continue // services_test.go
		}
		t.Run(name, func(t *testing.T) {
			s := newSite(t, server.Kubeconfig(), "busy_wait = \"100ms\"\non_unreachable = \"refuse\"").impatient()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			code, reply := Run(ctx, name, s.fields(script, "DEADLINE_MS=300", "NODES=c1", "ARG1=workflow", "ARG2=12"))
			require.NoError(t, ctx.Err())
			assert.NotEqual(t, wire.OK, code)
			if code != wire.Busy {
				oneLine(t, reply[wire.KeyMessage])
			}
		})
	}
}

func TestTheCallersEndIsTheHooksEnd(t *testing.T) {
	server := hung(t)
	s := newSite(t, server.Kubeconfig(), "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan wire.Code)
	go func() {
		code, _ := Run(ctx, "slurm_bb_setup", s.fields(script))
		done <- code
	}()
	cancel()
	assert.Equal(t, wire.Failed, <-done)
}

func TestAJobWithoutDirectivesAsksNobody(t *testing.T) {
	s := newSite(t, "/nonexistent/kubeconfig", "")
	for _, name := range []string{"slurm_bb_job_process", "slurm_bb_setup"} {
		code, reply := Run(t.Context(), name, s.fields("#!/bin/sh\ntrue\n"))
		assert.Equal(t, wire.OK, code, reply)
	}
}

func TestPollIsBusyWhileKubernetesIsAway(t *testing.T) {
	server := hung(t)
	for _, wait := range []string{"0s", "50ms"} {
		s := newSite(t, server.Kubeconfig(), fmt.Sprintf("busy_wait = %q", wait)).impatient()
		for _, name := range []string{"slurm_bb_test_data_in", "slurm_bb_test_data_out"} {
			code, reply := Run(t.Context(), name, s.fields(script))
			assert.Equal(t, wire.Busy, code, reply)
		}
	}
}

func TestACredentialThatIsRefusedIsNotAServerThatIsAway(t *testing.T) {
	server := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Status(w, 401, "Unauthorized", "Unauthorized")
	})
	s := newSite(t, server.Kubeconfig(), "")
	for _, name := range []string{"slurm_bb_job_process", "slurm_bb_setup", "slurm_bb_test_data_in"} {
		code, reply := Run(t.Context(), name, s.fields(script))
		assert.Equal(t, wire.Failed, code, name)
		assert.Contains(t, reply[wire.KeyMessage], "the API server rejects the credential of the kubeconfig")
	}
}

func TestWithoutDWSTheMessageSaysSo(t *testing.T) {
	server := kubetest.New(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "404 page not found", 404) })
	s := newSite(t, server.Kubeconfig(), "")
	code, reply := Run(t.Context(), "slurm_bb_job_process", s.fields(script))
	assert.Equal(t, wire.Failed, code)
	assert.Contains(t, reply[wire.KeyMessage], "DWS is not installed in Kubernetes")
}

func TestTheProcessThatCancelsAJobIsGivenItsConfiguration(t *testing.T) {
	s := newSite(t, "/nonexistent/kubeconfig", "")
	out := s.dir + "/arguments"
	program := s.write("program", "#!/bin/sh\necho \"$@\" >"+out+".new\nmv "+out+".new "+out+"\n")
	require.NoError(t, os.Chmod(program, 0o700))
	c, err := openBurstBuffer("slurm_bb_job_teardown", s.fields("", "PROGRAM="+program))
	require.NoError(t, err)
	defer c.close()
	delete(c.request, wire.KeyConfig) // as when the file is the one by default
	require.NoError(t, c.cancelAfterwards())
	var text []byte
	require.Eventually(t, func() bool { text, err = os.ReadFile(out); return err == nil }, 30*time.Second, 5*time.Millisecond)
	assert.Equal(t, fmt.Sprintf("cancel-job --after-pid %d --config %s 12\n", os.Getpid(), s.config), string(text))

	delete(c.request, wire.KeyProgram)
	require.ErrorContains(t, c.cancelAfterwards(), "without PROGRAM")
}

func TestAJobThatGoesBackIsKeptAwayFromItsNodes(t *testing.T) {
	for name, test := range map[string]struct {
		failures int
		want     string
	}{
		"at first":     {1, "update JobId=12 ExcNodeList=c1,c2\n"},
		"not for ever": {3, "uhold 12\nupdate JobId=12 AdminComment=slurmk8s: held after 3 tries (workflows.max_requeues): no room on r1; then: scontrol release 12\nupdate JobId=12 ExcNodeList=c1,c2\n"},
		"no bad nodes": {0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "/nonexistent/kubeconfig", "")
			run := func(name, text string) { require.NoError(t, os.Chmod(s.write(name, "#!/bin/sh\n"+text+"\n"), 0o700)) }
			run("squeue", "case \"$*\" in *%x*) echo '12||';; *) echo '12|12|';; esac")
			run("scontrol", `echo "$@" >>`+s.dir+"/asked")
			c, err := openBurstBuffer("slurm_bb_job_teardown", s.fields(""))
			require.NoError(t, err)
			defer c.close()
			if test.failures > 0 {
				require.NoError(t, c.local.ChangeAway(t.Context(), 12, func(away *workflow.Away) {
					*away = workflow.Away{Failures: test.failures, Why: "no room on r1", Pending: []string{"c1", "c2"}}
				}))
			}
			away, err := c.keepAway(t.Context())
			require.NoError(t, err)
			assert.Equal(t, test.failures > 0, away, "it can run elsewhere")
			away, err = c.keepAway(t.Context())
			require.NoError(t, err)
			assert.False(t, away, "at the job's own end nothing is left to do")
			asked, _ := os.ReadFile(s.dir + "/asked")
			assert.Equal(t, test.want, string(asked))
		})
	}
}

func TestHooksInOneProcessDoNotDisturbEachOther(t *testing.T) {
	var group sync.WaitGroup
	for i := range 8 {
		api := kubetest.NewWorkflows(t)
		s := newSite(t, api.Kubeconfig(), "")
		s.write("slurm.conf", fmt.Sprintf("ClusterName=hpc%d\n", i))
		request := s.fields(script)
		group.Go(func() {
			for range 5 {
				code, reply := Run(t.Context(), "slurm_bb_job_process", request)
				assert.Equal(t, wire.OK, code, reply)
			}
			assert.Equal(t, 5, api.Count(http.MethodPost, "dryRun=All"))
			for _, r := range api.Requests() {
				if r.Method == http.MethodPost {
					assert.Contains(t, r.Body, fmt.Sprintf(`"wlmID":"hpc%d"`, i))
				}
			}
		})
	}
	group.Wait()
}
