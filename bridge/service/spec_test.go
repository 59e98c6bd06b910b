package service

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
)

func TestParse(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"short", "jupyter:8888", "name=jupyter,port=8888:8888,host=batch,expose=clusterip,ready=tcp"},
		{"short with target", "jupyter:80:8888", "name=jupyter,port=80:8888,host=batch,expose=clusterip,ready=tcp"},
		{"several", "a:1; b:2", "name=a,port=1:1,host=batch,expose=clusterip,ready=tcp;name=b,port=2:2,host=batch,expose=clusterip,ready=tcp"},
		{"long, all of it",
			"name=n,port=web:80:8080,port=9090,ns=team-a,type=external,host=all,ready=http:/health?x=1,ready-timeout=90,expose=nodeport,endpoints=slice,label=b=2,label=example.org/a=1",
			"name=n,port=web:80:8080,port=port-9090:9090:9090,ns=team-a,host=all,expose=nodeport,ready=http:/health?x=1,ready-timeout=1m30s,label=b=2,label=example.org/a=1"},
		{"host=all is headless", "name=n,port=1,host=all", "name=n,port=1:1,host=all,expose=headless,ready=tcp"},
		{"host=array is headless", "name=n-%A,port=1,host=array", "name=n-%A,port=1:1,host=array,expose=headless,ready=tcp"},
		{"internal", "name=n,port=80,type=internal,app=web", "name=n,port=80:80,type=internal,app=web"},
		{"the labels by which people name an application", "name=n,port=1,label=app.kubernetes.io/name=dask,label=app.kubernetes.io/part-of=climate",
			"name=n,port=1:1,host=batch,expose=clusterip,ready=tcp,label=app.kubernetes.io/name=dask,label=app.kubernetes.io/part-of=climate"},
		{"UDP and TCP on one number", "name=dns,port=dns:53:5353/udp,port=dns-tcp:53:5353/tcp",
			"name=dns,port=dns:53:5353/udp,port=dns-tcp:53:5353,host=batch,expose=clusterip,ready=tcp"},
		{"UDP in the short form is ready at once", "statsd:8125/udp", "name=statsd,port=8125:8125/udp,host=batch,expose=clusterip,ready=none"},
		{"UDP without names", "name=syslog,port=1514/udp,port=1514", "name=syslog,port=udp-1514:1514:1514/udp,port=port-1514:1514:1514,host=batch,expose=clusterip,ready=tcp"},
		{"a protocol for all ports but one", "name=n,port=a:1,port=b:2,app-protocol=b:kubernetes.io/h2c,app-protocol=http",
			"name=n,port=a:1:1,port=b:2:2,app-protocol=a:http,app-protocol=b:kubernetes.io/h2c,host=batch,expose=clusterip,ready=tcp"},
		{"https", "name=n,port=8443,ready=https:/healthz", "name=n,port=8443:8443,host=batch,expose=clusterip,ready=https:/healthz"},
		{"a probe of another port by number", "name=n,port=80:8080,port=9000,ready=http:9000/health",
			"name=n,port=port-80:80:8080,port=port-9000:9000:9000,host=batch,expose=clusterip,ready=http:9000/health"},
		{"a probe of one port by name", "name=n,port=web:80,port=admin:81,ready=tcp:admin",
			"name=n,port=web:80:80,port=admin:81:81,host=batch,expose=clusterip,ready=tcp:admin"},
		{"annotations", "name=n,port=1,annotation=prometheus.io/scrape=true,annotation=note=a=b",
			"name=n,port=1:1,host=batch,expose=clusterip,ready=tcp,annotation=note=a=b,annotation=prometheus.io/scrape=true"},
		{"a free port", "jupyter:80:auto", "name=jupyter,port=80:auto,host=batch,expose=clusterip,ready=tcp"},
		{"a port that a file says", "name=d,port=scheduler:8786,port=web:80:file:/home/a/scheduler.json", "name=d,port=scheduler:8786:8786,port=web:80:file:/home/a/scheduler.json,host=batch,expose=clusterip,ready=tcp"},
		{"a free port on each node", "name=n,port=web:80:auto,port=dns:53:auto/udp,host=all,expose=clusterip",
			"name=n,port=web:80:auto,port=dns:53:auto/udp,host=all,expose=clusterip,ready=tcp"},
		{"both", "name=n,port=1,endpoints=both,ready=none", "name=n,port=1:1,host=batch,expose=clusterip,ready=none,endpoints=both"},
		{"file", "name=n,port=1,ready=file:/home/u/ready", "name=n,port=1:1,host=batch,expose=clusterip,ready=file:/home/u/ready"},
		{"dask: a name without target", "name=d,port=dask-scheduler:8786,port=dask-webui:80:8787",
			"name=d,port=dask-scheduler:8786:8786,port=dask-webui:80:8787,host=batch,expose=clusterip,ready=tcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			specs, err := Parse(tt.text, nil)
			require.NoError(t, err)
			assert.Equal(t, tt.want, canonical(specs))
		})
	}
}

func canonical(specs []Spec) string {
	var parts []string
	for _, s := range specs {
		parts = append(parts, s.String())
	}
	return strings.Join(parts, ";")
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct{ name, text, want string }{
		{"nothing", "", "empty: write NAME:PORT"},
		{"nothing between", "a:1;;b:2", `"": empty`},
		{"no port", "jupyter", "no port: write NAME:PORT, for example jupyter:8888"},
		{"port 0", "a:0", `"0" is not a port from 1 to 65535`},
		{"port 65536", "a:65536", `"65536" is not a port`},
		{"negative port", "a:-1", `is not a port`},
		{"port with a sign", "a:+1", `is not a port`},
		{"port as octal", "a:010", `"010" is not a port`},
		{"too many colons", "a:1:2:3", "too many"},
		{"a free port as the Service's", "a:auto", "is not a port"},
		{"a free port of pods", "name=a,port=80:auto,type=internal,app=x", "auto and file are ports of the node"},
		{"a file's port of pods", "name=a,port=80:file:/x,type=internal,app=x", "auto and file are ports of the node"},
		{"a file's port without a cluster IP", "name=a,port=80:file:/x,expose=headless", "needs a cluster IP"},
		{"a file's port with a target", "name=a,port=80:90:file:/x", "has too many colons"},
		{"a file that is no absolute path", "name=a,port=80:file:x", "\"x\" is not an absolute path without"},
		{"a file above", "name=a,port=80:file:/a/../b", "\"/a/../b\" is not an absolute path without"},
		{"a free port without a cluster IP", "name=a,port=80:auto,expose=headless", "needs a cluster IP"},
		{"a free port of all nodes without a cluster IP", "name=a,port=80:auto,host=all", "needs a cluster IP"},
		{"port name in the short form", "a:web:1", `"web" is not a port`},
		{"digit first", "1a:1", `name "1a": at most 63 lower-case letters`},
		{"capitals", "Jupyter:1", `name "Jupyter"`},
		{"hyphen last", "a-:1", `name "a-"`},
		{"64 bytes", long + ":1", "name "},
		{"dot", "a.b:1", `name "a.b"`},
		{"path", "../x:1", `name "../x"`},
		{"newline", "a:1\nb:2", "has an invalid character (byte 4)"},
		{"NUL", "a:1\x00", "has an invalid character"},
		{"escape", "a:1\x1b[2J", "has an invalid character"},
		{"homoglyph", "jupytеr:1", "has an invalid character"},
		{"10 KB", strings.Repeat("a:1;", 2500), "longer than 8 KiB"},
		{"many services", strings.Repeat("a:1;", 65) + "a:1", "more than 64 services"},
		{"twice", "a:1;a:2", "the service a is given twice"},
		{"unknown field", "name=a,port=1,ip=10.0.0.1", `unknown field "ip", known are annotation, app, app-protocol,`},
		{"the user's address", "name=a,port=1,address=127.0.0.1", `unknown field "address"`},
		{"externalIPs", "name=a,port=1,externalIPs=1.2.3.4", `unknown field "externalIPs"`},
		{"options on the short form", "a:1,ns=b", "options need the long form"},
		{"no name", "port=1", "name= is missing"},
		{"no port in the long form", "name=a", "port= is missing"},
		{"name twice", "name=a,name=b,port=1", "name= is given twice"},
		{"port twice", "name=a,port=1,port=1", `is given twice`},
		{"port name twice", "name=a,port=x:1,port=x:2", `is given twice`},
		{"port name that is none", "name=a,port=X_Y:1", `port name "X_Y"`},
		{"namespace with a slash", "name=a,port=1,ns=../kube-system", `ns=: namespace "../kube-system"`},
		{"empty namespace", "name=a,port=1,ns=", `ns=: namespace ""`},
		{"unknown type", "name=a,port=1,type=both", `type=: "both" must be one of external, internal`},
		{"internal without app", "name=a,port=1,type=internal", "needs app="},
		{"internal that probes", "name=a,port=1,type=internal,app=x,ready=tcp", "selects pods"},
		{"internal with a node port", "name=a,port=1,type=internal,expose=nodeport,app=x", "expose= is only for type=external"},
		{"app of an external one", "name=a,port=1,app=x", "app= is for type=internal"},
		{"all with endpoints", "name=a,port=1,host=all,endpoints=both", "cannot be combined with host=all"},
		{"host by name", "name=a,port=1,host=c2", `host=: "c2" must be one of batch, all`},
		{"relative file", "name=a,port=1,ready=file:ready", "not an absolute path"},
		{"file with ..", "name=a,port=1,ready=file:/home/../etc/shadow", "not an absolute path"},
		{"http to elsewhere", "name=a,port=1,ready=http://169.254.169.254/", ""},
		{"unknown probe", "name=a,port=1,ready=exec:/bin/sh", "must be one of tcp"},
		{"endless patience", "name=a,port=1,ready-timeout=25h", "is not a time from 1s to 24h"},
		{"our label", "name=a,port=1,label=slurmk8s.io/job-id=1", "users may not set labels of"},
		{"Kubernetes's label", "name=a,port=1,label=kubernetes.io/service-name=x", "users may not set labels of"},
		{"a label of a sub-domain", "name=a,port=1,label=service.kubernetes.io/headless=", "users may not set labels of"},
		{"label value that is none", "name=a,port=1,label=a=b c", "cannot be the value of a label"},
		{"the label of the tool that made the object", "name=a,port=1,label=app.kubernetes.io/managed-by=Helm", "users may not set labels of kubernetes.io"},
		{"label below the domain of applications", "name=a,port=1,label=x.app.kubernetes.io/name=b", "users may not set labels of kubernetes.io"},
		{"unknown protocol of a port", "a:1/sctp", `"1/sctp" must end in /tcp or /udp`},
		{"port with two protocols", "a:1/udp/tcp", `must end in /tcp or /udp`},
		{"UDP twice", "name=a,port=x:1/udp,port=y:1/udp", "is given twice"},
		{"application protocol that is none", "name=a,port=1,app-protocol=h t", "is not a protocol such as"},
		{"application protocol of no port", "name=a,port=x:1,app-protocol=y:http", `no port is named "y"`},
		{"application protocol twice", "name=a,port=1,app-protocol=http,app-protocol=ws", "given twice"},
		{"probe of a port that is none of the service", "name=a,port=1,ready=https:22/x", `the service has no TCP port "22"`},
		{"tcp probe of UDP", "name=a,port=1/udp,ready=tcp", "ready=tcp needs a TCP port"},
		{"http probe of UDP by name", "name=a,port=x:1/udp,port=y:2,ready=http:x/", `the service has no TCP port "x"`},
		{"https without a path", "name=a,port=1,ready=https", "must be one of tcp[:PORT]"},
		{"annotation of the bridge", "name=a,port=1,annotation=slurmk8s.io/spec=x", "users may not set annotations of slurmk8s.io"},
		{"annotation of kubectl", "name=a,port=1,annotation=kubectl.kubernetes.io/last-applied-configuration=x", "users may not set annotations of kubectl.kubernetes.io"},
		{"annotation with two slashes", "name=a,port=1,annotation=a/b/c=x", "cannot be the key of an annotation"},
		{"annotation without value", "name=a,port=1,annotation=a", "annotation=KEY=VALUE"},
		{"annotation twice", "name=a,port=1,annotation=a=1,annotation=a=2", `annotation "a" is given twice`},
		{"one for the array and one for each task", "name=w-%a,port=1,host=array", "use one of the two"},
		{"old endpoints of an array", "name=w,port=1,host=array,endpoints=both", "cannot be combined with host=all or host=array"},
		{"label without value", "name=a,port=1,label=a", "label=KEY=VALUE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			specs, err := Parse(tt.text, nil)
			if tt.want == "" { // a path like any other: it is asked of the node itself
				require.NoError(t, err)
				return
			}
			var wrong *job.Refused
			require.ErrorAs(t, err, &wrong)
			assert.ErrorContains(t, err, tt.want)
			assert.Nil(t, specs)
		})
	}
}

// arkouda are the values of Arkouda's example job.
func arkouda() map[string]string {
	return map[string]string{
		"NAMESPACE": "arkouda", "ENDPOINT_NAME": "arkouda-on-slurm", "ENDPOINT_PORT": "5555",
		"EXTERNAL_SERVICE_NAME": "arkouda-on-slurm", "EXTERNAL_SERVICE_PORT": "5555", "EXTERNAL_SERVICE_TARGET_PORT": "5555",
		"METRICS_SERVICE_NAME": "arkouda-on-slurm-metrics", "METRICS_SERVICE_PORT": "5556", "METRICS_SERVICE_TARGET_PORT": "5556",
		"K8S_HOST": "https://ace:6443", "KEY_FILE": "/opt/arkouda.key", "CERT_FILE": "/opt/arkouda.crt",
	}
}

func TestArkoudasVariables(t *testing.T) {
	parse := func(text string, change map[string]string) string {
		env := arkouda()
		for key, value := range change {
			env[key] = value
		}
		specs, err := Parse(text, env)
		if err != nil {
			return err.Error()
		}
		return canonical(specs)
	}
	assert.Equal(t, "name=arkouda-on-slurm,port=5555:5555,ns=arkouda,host=batch,expose=clusterip,ready=tcp;"+
		"name=arkouda-on-slurm-metrics,port=5556:5556,ns=arkouda,host=batch,expose=clusterip,ready=tcp", parse("env", nil))
	assert.Contains(t, parse("env", map[string]string{"EXTERNAL_SERVICE_PORT": "80"}), "port=80:5555",
		"the target is the endpoint's port, which Arkouda confused")
	assert.Contains(t, parse("env", map[string]string{"METRICS_SERVICE_PORT": "80", "METRICS_SERVICE_TARGET_PORT": "9000"}), "port=80:9000",
		"the target did not become the Service's port")
	assert.Contains(t, parse("env", map[string]string{"METRICS_SERVICE_TARGET_PORT": "", "METRICS_SERVER_PORT": "6000"}), "port=5556:6000",
		"the port that the metrics listen on")
	assert.Equal(t, "name=arkouda-on-slurm,port=5555:5555,host=batch,expose=clusterip,ready=tcp", parse("env", map[string]string{
		"NAMESPACE": "", "EXTERNAL_SERVICE_PORT": "", "EXTERNAL_SERVICE_TARGET_PORT": "", "METRICS_SERVICE_NAME": ""}), "defaults")
	assert.Contains(t, parse("env,ready=none,endpoints=both,ns=x;b:1", nil), "ns=x,host=batch,expose=clusterip,ready=none,endpoints=both;name=b")
	assert.Contains(t, parse("env,type=internal", nil), "type=internal,app=arkouda-server")
	assert.Contains(t, parse("env", map[string]string{"NAMESPACE": "../x"}), `NAMESPACE: namespace "../x"`)
	assert.Contains(t, parse("env", map[string]string{"EXTERNAL_SERVICE_NAME": "a b"}), `EXTERNAL_SERVICE_NAME: name "a b"`)
	assert.Contains(t, parse("env", map[string]string{"METRICS_SERVICE_PORT": "5556;x"}), `METRICS_SERVICE_PORT: "5556;x" is not a port`)
	assert.Contains(t, parse("env,name=x", nil), "comes from the environment")
	_, err := Parse("env", nil)
	assert.ErrorIs(t, err, ErrNoVariables)
	specs, err := ParseEarly("env;a:1", nil)
	require.NoError(t, err)
	assert.Len(t, specs, 1)
}

func TestExportsOfAScript(t *testing.T) {
	got := Exports([]byte(`#!/bin/bash
#SBATCH --k8s-register=env
export NAMESPACE=arkouda
 export EXTERNAL_SERVICE_NAME="arkouda-on-slurm" EXTERNAL_SERVICE_PORT=5555
export METRICS_SERVICE_NAME='m' # why
export KEY_FILE=/opt/arkouda.key LD_PRELOAD=/tmp/x.so
export METRICS_SERVICE_PORT=$PORT
export EXTERNAL_SERVICE_TARGET_PORT=$(id)
METRICS_SERVER_PORT=7
export METRICS_SERVICE_TARGET_PORT="1` + "`id`" + `"
`))
	assert.Equal(t, map[string]string{
		"NAMESPACE": "arkouda", "EXTERNAL_SERVICE_NAME": "arkouda-on-slurm", "EXTERNAL_SERVICE_PORT": "5555", "METRICS_SERVICE_NAME": "m",
	}, got)
}

func TestNamesOfNodes(t *testing.T) {
	for _, node := range []string{"c1", "node10", "c1.example.org"} {
		assert.Equal(t, node, dnsNode(node), "is not mangled")
	}
	for _, node := range []string{"C1", "c_1", "-", "c1.", strings.Repeat("c", 255)} {
		assert.Regexp(t, `^n-[a-z0-9-]*[a-z0-9]$`, dnsNode(node))
	}
	assert.NotEqual(t, dnsNode("C1"), dnsNode("c1"))
	assert.NotEqual(t, dnsNode("c_1"), dnsNode("c.1"))
	assert.LessOrEqual(t, len(sliceName(strings.Repeat("a", 63), strings.Repeat("b", 40), 1<<32-1, strings.Repeat("C", 255))), 253)
	assert.LessOrEqual(t, len(nodeLabel(strings.Repeat("c", 255))), 63)
	assert.Equal(t, "DASK_WEB", Variable("dask-web"))
}

func FuzzSpec(f *testing.F) {
	for _, seed := range []string{
		"jupyter:8888", "a:80:8888;b:1", "env", "env,ready=none", "name=a,port=x:1:2,ns=b,label=k=v,host=all,ready=http:/x",
		"name=a,port=1,type=internal,app=x", "a:1;;", "\x00", "name=a,ready-timeout=1h,port=9", "=,=;:", "name=a,port=1,label=a.b/c=d,annotation=a/b= x=y",
		"name=a,port=x:1:2/udp,port=2,app-protocol=x:a/b,ready=https:2/y", "a:1/udp", "env,app-protocol=http",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := Parse(text, arkouda())
		if err != nil {
			s := err.Error()
			if len(s) > 600 || strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
				t.Fatalf("not one short line: %q", s)
			}
			return
		}
		again, err := Parse(canonical(specs), nil)
		if err != nil || canonical(again) != canonical(specs) {
			t.Fatalf("%q reads as %q, which reads as %q, %v", text, canonical(specs), canonical(again), err)
		}
		for _, s := range specs {
			if checkName(s.Name) != nil || len(s.Ports) == 0 || s.Expose == "" || s.Ready.Kind == "" ||
				s.ReadyTimeout < 0 || s.ReadyTimeout > 24*time.Hour || s.Namespace != "" && CheckNamespace(s.Namespace) != nil {
				t.Fatalf("%q became %+v", text, s)
			}
			for _, p := range s.Ports {
				if p.Port == 0 || p.Target == 0 || len(s.Ports) > 1 && p.Name == "" {
					t.Fatalf("%q became %+v", text, s)
				}
			}
		}
	})
}
