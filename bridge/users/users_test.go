package users

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestName(t *testing.T) {
	name, err := Name(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, "root", name)
	_, err = Name(t.Context(), 4294967294)
	require.Error(t, err)
}

// Neither a number nor a name of a directory is in /etc/passwd: getent finds both.
func TestAnAccountIsFoundByNameAndByNumber(t *testing.T) {
	tests := []struct {
		text string
		want Account
	}{
		{"root", Account{"root", 0, 0}},
		{"0", Account{"root", 0, 0}},
		{"65534", Account{"nobody", 65534, 65534}},
	}
	for _, tt := range tests {
		got, err := AccountOf(t.Context(), tt.text)
		require.NoError(t, err)
		assert.Equal(t, tt.want, *got, tt.text)
	}
	_, err := AccountOf(t.Context(), "no-such-user")
	require.EqualError(t, err, "user no-such-user does not exist on this host (getent passwd no-such-user)")
}

func TestSlurmUserIsThatOfSlurmConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slurm.conf")
	_, err := SlurmUser(t.Context(), path)
	require.ErrorIs(t, err, os.ErrNotExist)
	for text, want := range map[string]Account{
		"ClusterName=a\n":                   {"root", 0, 0}, // Slurm's default
		"ClusterName=a\nSlurmUser=nobody\n": {"nobody", 65534, 65534},
		"ClusterName=a\nslurmuser=65534\n":  {"nobody", 65534, 65534},
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		got, err := SlurmUser(t.Context(), path)
		require.NoError(t, err, text)
		assert.Equal(t, want, *got, text)
	}
	require.NoError(t, os.WriteFile(path, []byte("SlurmUser=no-such-user\n"), 0o600))
	_, err = SlurmUser(t.Context(), path)
	require.EqualError(t, err, "SlurmUser of "+path+": user no-such-user does not exist on this host (getent passwd no-such-user)")
}

// Accounts of LDAP or SSSD are known to getent alone. The test is in a mount namespace of its
// own so that it can be getent.
func TestAccountsThatOnlyTheNameServiceKnows(t *testing.T) {
	const inside = "SLURMK8S_TEST_GETENT"
	if os.Getenv(inside) == "" {
		if os.Getuid() != 0 {
			t.Skip("needs root: it mounts a program of its own over getent")
		}
		cmd := exec.Command("unshare", "--mount", "--", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	getent := filepath.Join(t.TempDir(), "getent")
	require.NoError(t, os.WriteFile(getent, []byte(`#!/bin/sh
		case "$1 $3" in
		"passwd slurm-ldap" | "passwd 64030") echo 'slurm-ldap:*:64030:64031:Slurm:/var/lib/slurm:/bin/false' ;;
		"passwd svc.slurm@corp.example" | "passwd 1812400513") echo 'svc.slurm@corp.example:*:1812400513:1812400513::/home/svc:/bin/sh' ;;
		"group domain users") echo 'domain users:*:1812400513:jdoe@corp.example' ;;
		*) exit 2 ;;
		esac`), 0o755))
	require.NoError(t, exec.Command("mount", "--bind", getent, "/usr/bin/getent").Run())
	conf := filepath.Join(t.TempDir(), "slurm.conf")
	for text, want := range map[string]Account{
		"slurm-ldap": {"slurm-ldap", 64030, 64031}, "64030": {"slurm-ldap", 64030, 64031},
		"svc.slurm@corp.example": {"svc.slurm@corp.example", 1812400513, 1812400513}, "1812400513": {"svc.slurm@corp.example", 1812400513, 1812400513},
	} {
		require.NoError(t, os.WriteFile(conf, []byte("SlurmUser="+text+"\n"), 0o600))
		got, err := SlurmUser(t.Context(), conf)
		require.NoError(t, err, text)
		assert.Equal(t, want, *got, text)
	}
	group, err := GroupOf(t.Context(), "domain users")
	require.NoError(t, err)
	assert.Equal(t, &Group{1812400513, []string{"jdoe@corp.example"}}, group)
}
