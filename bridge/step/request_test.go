package step

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

func fields(more map[string]string) wire.Fields {
	f := wire.Fields{"JOB_ID": "12", "STEP_ID": "batch", "UID": "1000", "GID": "100", "NODE": "c1"}
	for key, value := range more {
		f[key] = value
	}
	return f
}

func TestARequest(t *testing.T) {
	r, err := parseRequest(fields(map[string]string{"NODE_RANK": "3", "RESTART_COUNT": "2", "GIDS": "100,7", "STEP_ID": "0", "UNKNOWN": "x",
		"K8S_REGISTER": "jupyter:8888", "K8S_IMPORT": "ns/db:5432", "K8S_NAMESPACE": "physics"}))
	require.NoError(t, err)
	assert.Equal(t, uint32(3), r.rank)
	assert.Equal(t, uint32(2), r.job.Restarts)
	assert.Equal(t, []uint32{100, 7}, r.groups)
	assert.Equal(t, []service.Import{{Namespace: "ns", Name: "db", Port: "5432"}}, r.imports)
	assert.False(t, r.allocationWide())
}

func TestVariablesComeFromTheScriptOrTheEnvironment(t *testing.T) {
	script := filepath.Join(t.TempDir(), "slurm_script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexport EXTERNAL_SERVICE_NAME=of-script\n"), 0o600))
	names := func(more map[string]string) (list []string, err error) {
		more["K8S_REGISTER"] = "env"
		r, err := parseRequest(fields(more))
		if err != nil {
			return nil, err
		}
		for _, s := range r.specs {
			list = append(list, s.Name)
		}
		return list, nil
	}
	tests := []struct {
		name string
		more map[string]string
		want []string
	}{
		{"submission's environment", map[string]string{"ENV_EXTERNAL_SERVICE_NAME": "of-env"}, []string{"of-env"}},
		{"the script", map[string]string{"SCRIPT": script}, []string{"of-script"}},
		{"the script counts more: it runs later", map[string]string{"SCRIPT": script, "ENV_EXTERNAL_SERVICE_NAME": "of-env", "ENV_METRICS_SERVICE_NAME": "m"},
			[]string{"of-script", "m"}},
		{"a batch script may set them for its srun", map[string]string{}, nil},
		{"an srun step has its environment only", map[string]string{"STEP_ID": "0", "SCRIPT": script, "ENV_EXTERNAL_SERVICE_NAME": "of-env"}, []string{"of-env"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := names(tt.more)
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
	_, err := names(map[string]string{"STEP_ID": "0"})
	require.ErrorIs(t, err, service.ErrNoVariables, "an srun that asks for it and has nothing is a mistake")

	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(script, link))
	_, err = names(map[string]string{"SCRIPT": link})
	require.ErrorContains(t, err, "read the job script")
	hard := filepath.Join(filepath.Dir(script), "hard")
	require.NoError(t, os.Link(script, hard))
	_, err = names(map[string]string{"SCRIPT": hard})
	require.ErrorContains(t, err, "is not a file of the job's owner")
}

func TestVariablesOfTheJob(t *testing.T) {
	specs, err := service.Parse("name=a,port=b-c:1,port=d:2,ns=x;name=a-d,port=9,ns=x", nil)
	require.NoError(t, err)
	auto, err := service.Parse("name=j-l,port=8888:auto,ns=x;name=m,port=web:80:auto,port=80:auto/udp,ns=x;name=n,port=1:auto,ns=x", nil)
	require.NoError(t, err)
	auto[0].Ports[0].Target, auto[1].Ports[0].Target, auto[1].Ports[1].Target = 20001, 20002, 20003
	assert.Equal(t, map[string]string{
		"SLURMK8S_SERVICE_J_L": "j-l.x.svc:8888", "SLURMK8S_PORT_J_L": "20001",
		"SLURMK8S_SERVICE_M": "m.x.svc:80", "SLURMK8S_PORT_M": "20002",
		"SLURMK8S_SERVICE_M_WEB": "m.x.svc:80", "SLURMK8S_PORT_M_WEB": "20002",
		"SLURMK8S_SERVICE_M_UDP_80": "m.x.svc:80", "SLURMK8S_PORT_M_UDP_80": "20003",
		"SLURMK8S_SERVICE_N": "n.x.svc:1", // this node does not serve it
	}, variables(auto))
	assert.Equal(t, map[string]string{
		"SLURMK8S_SERVICE_A": "a.x.svc:1", "SLURMK8S_SERVICE_A_B_C": "a.x.svc:1", "SLURMK8S_SERVICE_A_D": "a-d.x.svc:9",
	}, variables(specs))
}
