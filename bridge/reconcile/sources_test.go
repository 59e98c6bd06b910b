package reconcile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// fakeDuty keeps one object on the controller, and one on each node.
type fakeDuty struct {
	name string
	err  error
}

func (fakeDuty) Used(*slurmconf.Config) bool             { return true }
func (fakeDuty) Rights(*slurmconf.Config) []duty.Rights  { return nil }
func (fakeDuty) Kubeconfig(cfg *slurmconf.Config) string { return cfg.Services.Kubeconfig }
func (d fakeDuty) object(where string) []duty.Object     { return []duty.Object{{Name: d.name + where}} }
func (d fakeDuty) List(context.Context, duty.Host) ([]duty.Object, error) {
	return d.object(" everywhere"), d.err
}
func (d fakeDuty) ListHere(_ context.Context, h duty.Host) ([]duty.Object, error) {
	return d.object(" on " + h.Node), nil
}

// lists returns the names of what sources list.
func lists(t *testing.T, sources []Source) []string {
	t.Helper()
	names := []string{}
	for _, source := range sources {
		objects, err := source(t.Context())
		require.NoError(t, err)
		for _, o := range objects {
			names = append(names, o.Name)
		}
	}
	return names
}

func TestAHostReconcilesWhatItsCredentialsAreFor(t *testing.T) {
	tests := []struct {
		name                         string
		controllers, nodes, onlyNode bool
		cannotOpen                   string
		want                         []string
		controller                   bool
		fails                        bool
	}{
		{name: "the controller", controllers: true, want: []string{"a everywhere", "b everywhere"}, controller: true},
		{name: "a node", nodes: true, want: []string{"a on c1", "b on c1"}},
		{name: "a host that is both", controllers: true, nodes: true, want: []string{"a everywhere", "b everywhere", "a on c1", "b on c1"}, controller: true},
		{name: "of that, the node's part", controllers: true, nodes: true, onlyNode: true, want: []string{"a on c1", "b on c1"}},
		{name: "a host without credentials tells of the controller's", cannotOpen: "controller", want: []string{}, controller: true, fails: true},
		{name: "a credential that cannot be used", controllers: true, nodes: true, cannotOpen: "controller", want: []string{"a on c1", "b on c1"}, controller: true, fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := slurmconf.Default()
			cfg.Kubernetes.Kubeconfig, cfg.Services.Kubeconfig = filepath.Join(dir, "controller"), filepath.Join(dir, "node")
			for path, there := range map[string]bool{cfg.Kubernetes.Kubeconfig: tt.controllers, cfg.Services.Kubeconfig: tt.nodes} {
				if there {
					require.NoError(t, os.WriteFile(path, nil, 0o600))
				}
			}
			opened := map[string]int{}
			open := func(kubeconfig string) (*kube.Client, error) {
				name := filepath.Base(kubeconfig)
				if opened[name]++; name == tt.cannotOpen {
					return nil, errors.New("no credential")
				}
				return &kube.Client{}, nil
			}
			sources, controller, failed := Here([]duty.Duty{fakeDuty{name: "a"}, fakeDuty{name: "b"}}, duty.Host{Config: cfg, Node: "c1"}, tt.onlyNode, open)
			assert.Equal(t, tt.want, lists(t, sources))
			assert.Equal(t, tt.controller, controller)
			assert.Len(t, failed, map[bool]int{true: 1}[tt.fails])
			for name, times := range opened {
				assert.Equal(t, 1, times, name)
			}
		})
	}
}

func TestADutyThatKubernetesHasNotIsNoErrorBesideOthers(t *testing.T) {
	absent := fakeDuty{name: "a", err: duty.ErrAbsent}
	assert.Equal(t, []string{"a everywhere", "b everywhere"}, lists(t, Everywhere([]duty.Duty{absent, fakeDuty{name: "b"}}, duty.Host{})))
	_, err := Everywhere([]duty.Duty{absent}, duty.Host{})[0](t.Context())
	require.ErrorIs(t, err, duty.ErrAbsent)
}
