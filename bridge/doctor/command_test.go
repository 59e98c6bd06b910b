package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatAScriptRunsIsReadAsAShellDoes(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner.sh")
	require.NoError(t, os.WriteFile(inner, []byte("slurmk8s reconcile --node c1\n"), 0o755))
	for text, want := range map[string][]invocation{
		"exec /usr/bin/slurmk8s reconcile": {{"reconcile"}},
		"slurmk8s":                         {{}},
		"timeout 50 /opt/slurmk8s/bin/slurmk8s reconcile --limit=20s": {{"reconcile", "--limit=20s"}},
		"sudo -u slurm slurmk8s \\\n  reconcile":                      {{"reconcile"}},
		"if ! slurmk8s reconcile; then exit 1; fi":                    {{"reconcile"}},
		"test -x /x && slurmk8s reconcile || true":                    {{"reconcile"}},
		"SLURM_CONF=/x slurmk8s reconcile":                            {{"reconcile"}},
		"BIN=/opt/slurmk8s/bin\n\"$BIN/slurmk8s\" reconcile":          {{"reconcile"}},
		"PROGRAM=/usr/bin/slurmk8s\n${PROGRAM} reconcile":             {{"reconcile"}},
		"slurmk8s reconcile --node \"$(hostname -s)\"":                {{"reconcile", "--node", "$(hostname -s)"}},
		"sh -c 'cd / && exec slurmk8s reconcile'":                     {{"reconcile"}},
		inner:              {{"reconcile", "--node", "c1"}},
		". " + inner:       {{"reconcile", "--node", "c1"}},
		"bash -x " + inner: {{"reconcile", "--node", "c1"}},
		"slurmk8s status; slurmk8s reconcile # each minute": {{"status"}, {"reconcile"}},
		"# slurmk8s reconcile":                              nil,
		"echo slurmk8s reconcile":                           nil,
		"logger 'slurmk8s reconcile'":                       nil,
		"ls /etc/slurmk8s reconcile":                        nil,
		"notslurmk8s reconcile":                             nil,
		"":                                                  nil,
		"'an open quote slurmk8s":                           nil,
		dir + "/absent.sh && exit 0\\":                      nil,
	} {
		assert.Equal(t, want, shell(text, 0), "%s", text)
	}
}

func TestAScriptThatRunsItselfEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "loop.sh")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+path+"\nslurmk8s reconcile\n"), 0o755))
	runs, err := programs(path)
	require.NoError(t, err)
	assert.Contains(t, runs, invocation{"reconcile"})
}

func TestALineOfCronRunsWithOrWithoutAUser(t *testing.T) {
	for line, want := range map[string]bool{
		"* * * * * slurm /opt/slurmk8s/bin/slurmk8s reconcile": true,
		"*/5 * * * * /opt/slurmk8s/bin/slurmk8s reconcile":     true,
		"@hourly slurm slurmk8s reconcile >/dev/null":          true,
		"# * * * * * slurm slurmk8s reconcile":                 false,
		"* * * * * slurm slurmk8s reconcile --dry-run":         false,
		"* * * * * slurm slurmk8s reconcile --help":            false,
		"* * * * * slurm slurmk8s status":                      false,
		"* * * * *":                                            false,
		"PATH=/usr/bin":                                        false,
		"":                                                     false,
	} {
		found := false
		for _, run := range cronCommand(line) {
			found = found || run.reconciles(false)
		}
		assert.Equal(t, want, found, "%s", line)
	}
}
