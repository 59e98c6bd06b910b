package doctor

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestALogThatTheHooksCannotWriteIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	tests := []struct {
		name      string
		make      func(s *site)
		status    Status
		found, do string
	}{
		{"root's", func(s *site) { s.write("log", "", 0o640) }, Failed, "log is not writable for nobody, whom the hooks run as", "chown nobody "},
		{"SlurmUser's", func(s *site) {
			s.write("log", "", 0o640)
			require.NoError(s.t, os.Chown(s.path("log"), 65534, 65534))
		}, OK, "log", ""},
		{"its group's", func(s *site) {
			s.write("log", "", 0o660)
			require.NoError(s.t, os.Chown(s.path("log"), 0, 65534))
		}, OK, "log", ""},
		{"SlurmUser's, but read-only", func(s *site) {
			s.write("log", "", 0o440)
			require.NoError(s.t, os.Chown(s.path("log"), 65534, 65534))
		}, Failed, "is not writable for nobody", "chown nobody"},
		{"a directory", func(s *site) { require.NoError(s.t, os.Mkdir(s.path("log"), 0o777)) }, Failed, "is not a regular file", "log.file"},
		{"not there, in root's directory", func(*site) {}, Failed, "log does not exist, and nobody, whom the hooks run as, cannot create it", "install -o nobody -m 0640 /dev/null "},
		{"not there, in SlurmUser's directory", func(s *site) { require.NoError(s.t, os.Chown(s.dir, 65534, 65534)) }, OK, "which the first hook will create", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.edit("slurm.conf", "SlurmUser=root", "SlurmUser=nobody")
			s.edit("slurmk8s.toml", "[nodes]", "[log]\nfile = \""+s.path("log")+"\"\n[nodes]")
			tt.make(s)
			for _, r := range Run(t.Context(), s.o) {
				if r.Check == "log" {
					assert.Equal(t, tt.status, r.Status)
					assert.Contains(t, r.Found, tt.found)
					assert.Contains(t, r.Do, tt.do)
					return
				}
			}
			t.Fatal("not checked")
		})
	}
}
