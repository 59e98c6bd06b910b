package slurmconf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrongSettingsOfNodes(t *testing.T) {
	for line, want := range map[string]string{
		`reclaim = "always"`:                      `nodes.reclaim: "always" must be one of none, request, all`,
		`block = "drain"`:                         `nodes.block: "drain" must be one of cordon, taint, both`,
		`daemonsets = "fail"`:                     `nodes.daemonsets: "fail" must be one of keep, evict`,
		`unmanaged = "refuse"`:                    `nodes.unmanaged: "refuse" must be one of keep, evict, fail`,
		`on_error = "drain"`:                      `nodes.on_error: "drain" must be one of requeue, proceed, fail`,
		`job_policies = ["kill"]`:                 `nodes.job_policies: "kill" must be one of delete, fail, ignore`,
		`node_name = "fqdn"`:                      `nodes.node_name: "fqdn" must be one of same, suffix:.DOMAIN, label:KEY, map:FILE`,
		`node_name = "suffix:/x"`:                 `nodes.node_name: "/x" cannot be the end of a node's name`,
		`node_name = "label:a b"`:                 `nodes.node_name: "a b" cannot be the key of a label`,
		`node_name = "map:nodes.map"`:             `nodes.node_name: "nodes.map" is not an absolute path`,
		`taint = "a b"`:                           `nodes.taint: "a b" is not KEY or KEY=VALUE of a taint`,
		`lend_taint = "slurmk8s.io/reclaimed"`:    `nodes.lend_taint: is the same as taint`,
		`evict_grace = "10s"`:                     `nodes.evict_grace: 10s is not between min_evict_grace = 30s and max_evict_grace = 5m0s`,
		`evict_timeout = "11m"`:                   `nodes.evict_timeout: 11m0s is longer than max_evict_timeout = 10m0s`,
		`units = ["kubelet; reboot"]`:             `nodes.units: "kubelet; reboot" is not the name of a systemd service`,
		"kubelet = 'stop'\nunits = ['a.service']": `nodes.units: does not include the kubelet, which kubelet = "stop" should stop`,
		`parallel = 0`:                            `nodes.parallel: 0 is out of range, 1 to 1000`,
		`settle = "2m"`:                           `nodes.settle: 2m0s is out of range, 0s to 1m0s`,
		`kubeconfig = "kubelet.conf"`:             `nodes.kubeconfig: "kubelet.conf" is not an absolute path`,
		`dbus_socket = ""`:                        `nodes.dbus_socket: "" is not an absolute path`,
		`mirror = "slurm"`:                        `nodes.mirror: "slurm" must be one of off, to-kubernetes, to-slurm, both`,
		`mirror_max_nodes = "0"`:                  `nodes.mirror_max_nodes: "0" is not a number of nodes such as "50", or a share such as "20%"`,
		`mirror_max_nodes = "101%"`:               `nodes.mirror_max_nodes: "101%" is not a number of nodes`,
		`mirror_max_nodes = "a few"`:              `nodes.mirror_max_nodes: "a few" is not a number of nodes`,
		`mirror_after = "2h"`:                     `nodes.mirror_after: 2h0m0s is out of range, 0s to 1h0m0s`,
		`mirror_conditions = ["Kernel Deadlock"]`: `nodes.mirror_conditions: "Kernel Deadlock" cannot be the type of a condition`,
		`evict_timout = "1s"`:                     `nodes.evict_timout: unknown key, did you mean "evict_timeout"?`,
	} {
		_, err := Load(writeConfig(t, withSlurmConf+"[nodes]\n"+line+"\n"))
		require.ErrorContains(t, err, want)
		assertOneLine(t, err)
	}
	for _, line := range []string{
		`node_name = "suffix:.example.org"`, `node_name = "suffix:-ib"`, `node_name = "label:example.org/slurm-node"`, `node_name = "map:/etc/slurm/nodes.map"`,
		`taint = "example.org/slurm=job"`, `units = ["kubelet.service", "crio.service"]`, `evict_timeout = "0s"`,
	} {
		_, err := Load(writeConfig(t, withSlurmConf+"[nodes]\n"+line+"\n"))
		assert.NoError(t, err, line)
	}
}

func TestMirrorLimit(t *testing.T) {
	for _, tt := range []struct {
		max         string
		nodes, want int
	}{
		{"50", 10, 50}, {"50", 1000, 50}, {"20%", 1000, 200}, {"20%", 9, 1}, {"20%", 2, 1}, {"100%", 2, 2},
	} {
		n := NodeSettings{MirrorMaxNodes: tt.max}
		assert.Equal(t, tt.want, n.MirrorLimit(tt.nodes), "%s of %d", tt.max, tt.nodes)
	}
}
