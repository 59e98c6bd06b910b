// Package testbed reaches a test cluster: Slurm by the name of its controller's container,
// Kubernetes by a kubeconfig. How the two came up does not matter to it.
package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Cluster is a cluster under test.
type Cluster struct {
	Kubeconfig   string // administrator's
	Slurmctld    string // container
	ControlPlane string // container of the API server
	Namespace    string // of the Workflows
	Nodes        []Node
	Kube         dynamic.Interface

	http      *http.Client // with the administrator's credential
	apiServer string       // its URL
}

// FromEnv reads E2E_KUBECONFIG, E2E_SLURMCTLD, E2E_CONTROL_PLANE, E2E_NAMESPACE and E2E_NODES
// (NODE=CONTAINER,...); what is not set is as tests/cluster makes it.
func FromEnv() (*Cluster, error) {
	cluster := env("CLUSTER", "slurmk8s")
	cache := env("SLURMK8S_CACHE", filepath.Join(env("XDG_CACHE_HOME", filepath.Join(os.Getenv("HOME"), ".cache")), "slurmk8s"))
	b := &Cluster{
		Kubeconfig:   env("E2E_KUBECONFIG", filepath.Join(cache, "cluster", "kubeconfig")),
		Slurmctld:    env("E2E_SLURMCTLD", cluster+"-slurmctld"),
		ControlPlane: env("E2E_CONTROL_PLANE", cluster+"-control-plane"),
		Namespace:    env("E2E_NAMESPACE", "slurm"),
	}
	var err error
	if b.Nodes, err = nodesOf(env("E2E_NODES", cluster+"-worker="+cluster+"-slurmd1,"+cluster+"-worker2="+cluster+"-slurmd2")); err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", b.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of the test cluster: %w (bring it up: make cluster)", err)
	}
	config.WarningHandler = rest.NoWarnings{}
	config.QPS = -1 // a hundred jobs are watched at once
	if b.Kube, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	b.apiServer = strings.TrimSuffix(config.Host, "/")
	if b.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, err
	}
	return b, nil
}

// With reaches the same API server with the credential of another kubeconfig.
func (b *Cluster) With(kubeconfig []byte) (dynamic.Interface, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.Host = b.apiServer // by its address for us
	return dynamic.NewForConfig(config)
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// Result is what a command that ran said.
type Result struct {
	Stdout, Stderr string
	Status         int
}

// As runs a command as a user in the controller's container, in the user's home. The error is
// for a command that could not be run or did not end in time; any exit status is a Result.
func (b *Cluster) As(ctx context.Context, user, stdin string, command ...string) (Result, error) {
	home := "/home/" + user
	if user == "root" || user == "slurm" {
		home = "/"
	}
	words := []string{"docker", "exec", "-i", "-u", user, "-w", home, b.Slurmctld}
	if end, limited := ctx.Deadline(); limited {
		// A docker that is killed leaves the command running.
		words = append(words, "timeout", "--kill-after=1", strconv.FormatFloat(time.Until(end).Seconds(), 'f', 1, 64))
	}
	return run(ctx, stdin, append(words, command...)...)
}

// Root runs a command of the administrator, which must succeed, and returns what it printed.
func (b *Cluster) Root(ctx context.Context, command ...string) (string, error) {
	result, err := b.As(ctx, "root", "", command...)
	if err == nil && result.Status != 0 {
		err = fmt.Errorf("%s: exit status %d: %s", strings.Join(command, " "), result.Status, strings.TrimSpace(result.Stderr))
	}
	return result.Stdout, err
}

// Docker runs docker itself, to disturb a container.
func (b *Cluster) Docker(ctx context.Context, arguments ...string) (string, error) {
	result, err := run(ctx, "", append([]string{"docker"}, arguments...)...)
	if err == nil && result.Status != 0 {
		err = fmt.Errorf("docker %s: exit status %d: %s", strings.Join(arguments, " "), result.Status, strings.TrimSpace(result.Stderr))
	}
	return result.Stdout, err
}

func run(ctx context.Context, stdin string, words ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		result.Status = exit.ExitCode()
		return result, nil
	}
	if err != nil {
		return result, fmt.Errorf("%s: %w (%s)", strings.Join(words, " "), errors.Join(err, ctx.Err()), strings.TrimSpace(result.Stderr))
	}
	return result, nil
}

// Release is Slurm's version as major and minor number: 2205, 2411, 2605.
func (b *Cluster) Release(ctx context.Context) (int, error) {
	text, err := b.Root(ctx, "scontrol", "--version")
	if err != nil {
		return 0, err
	}
	// "slurm-wlm 22.05.8"
	words := strings.Fields(text)
	numbers := strings.Split(words[len(words)-1], ".")
	if len(numbers) < 2 {
		return 0, fmt.Errorf("scontrol --version: cannot read %q", text)
	}
	return strconv.Atoi(numbers[0] + numbers[1])
}
