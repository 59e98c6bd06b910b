package service

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Variables are those that `--k8s-register=env` looks at: the ones of Arkouda
// that say what to register. K8S_HOST and those that name a key, a certificate or
// a token are none of them: in a job the site's credential is used, and a path
// that a user gave is never opened.
var Variables = []string{
	"NAMESPACE",
	"EXTERNAL_SERVICE_NAME", "EXTERNAL_SERVICE_PORT", "EXTERNAL_SERVICE_TARGET_PORT",
	"METRICS_SERVICE_NAME", "METRICS_SERVICE_PORT", "METRICS_SERVICE_TARGET_PORT", "METRICS_SERVER_PORT",
}

// ErrNoVariables says that "env" was asked for where none of its names is set.
var ErrNoVariables = fmt.Errorf("neither EXTERNAL_SERVICE_NAME nor METRICS_SERVICE_NAME is set")

// arkoudaApp is the label of Arkouda's server pods.
const arkoudaApp = "arkouda-server"

// parseEnv reads Arkouda's variables. Its client port is 5555, that of its metrics
// 5556; each has a target port of its own, which Arkouda mixed up.
func parseEnv(env map[string]string, options string) ([]Spec, error) {
	d := draft{given: map[string]bool{}}
	if options != "" {
		if err := d.read(options); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{"name", "port"} {
		if d.given[key] {
			return nil, fmt.Errorf("%s= comes from the environment with env", key)
		}
	}
	if !d.given["ns"] {
		d.Namespace = env["NAMESPACE"]
		if d.Namespace != "" {
			if err := CheckNamespace(d.Namespace); err != nil {
				return nil, fmt.Errorf("NAMESPACE: %w", err)
			}
		}
	}
	if d.Expose == slurmconf.ExposeInternal && d.App == "" {
		d.App = arkoudaApp
	}
	var specs []Spec
	for _, kind := range []struct {
		prefix, port string
		target       []string
	}{
		{"EXTERNAL", "5555", []string{"EXTERNAL_SERVICE_TARGET_PORT"}},
		{"METRICS", "5556", []string{"METRICS_SERVICE_TARGET_PORT", "METRICS_SERVER_PORT"}},
	} {
		name := env[kind.prefix+"_SERVICE_NAME"]
		if name == "" {
			continue
		}
		if err := checkPattern(name); err != nil {
			return nil, fmt.Errorf("%s_SERVICE_NAME: %w", kind.prefix, err)
		}
		port, err := envPort(env, kind.port, kind.prefix+"_SERVICE_PORT")
		if err != nil {
			return nil, err
		}
		target, err := envPort(env, kind.port, kind.target...)
		if err != nil {
			return nil, err
		}
		s := d
		s.Name, s.Ports = name, []Port{{Port: port, Target: target}}
		if err := s.speak(); err != nil {
			return nil, err
		}
		specs = append(specs, s.Spec)
	}
	if len(specs) == 0 {
		return nil, ErrNoVariables
	}
	return specs, nil
}

// envPort is the first of the variables that is set, else the default.
func envPort(env map[string]string, otherwise string, names ...string) (uint16, error) {
	for _, name := range names {
		if value := env[name]; value != "" {
			port, err := portNumber(value)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			return port, nil
		}
	}
	return portNumber(otherwise)
}

var (
	exportLine = lazily(`^\s*export\s+(.*)$`)
	// assignment is a literal one: nothing that a shell would expand.
	assignment = lazily(`^([A-Za-z_][A-Za-z0-9_]*)=("[^"$` + "`" + `\\]*"|'[^']*'|[A-Za-z0-9_./:@%+,-]*)(?:\s+|$)`)
)

// lazily compiles an expression when it is first used, and not at the start of each hook.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// Exports finds the Variables that a batch script exports by literal lines
// (`export NAMESPACE=arkouda`); the last one counts. A line that a shell would
// have to expand is passed over.
func Exports(script []byte) map[string]string {
	env := map[string]string{}
	for line := range bytes.Lines(script) {
		m := exportLine().FindStringSubmatch(strings.TrimRight(string(line), "\r\n"))
		if m == nil {
			continue
		}
		for rest := m[1]; ; {
			pair := assignment().FindStringSubmatch(rest)
			if pair == nil {
				break
			}
			if slices.Contains(Variables, pair[1]) {
				env[pair[1]] = strings.Trim(pair[2], `"'`)
			}
			rest = rest[len(pair[0]):]
		}
	}
	return env
}
