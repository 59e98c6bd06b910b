package address

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/slurmconf"
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func TestFind(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "slurm.conf")
	require.NoError(t, os.WriteFile(conf, []byte("NodeName=c1 NodeAddr=c1-ib\nNodeName=c2 NodeAddr=10.1.0.1\nNodeName=c3 NodeAddr=10.9.9.9\n"+
		"NodeName=six NodeAddr=fd00::1\n"), 0o644))
	dns := map[string][]netip.Addr{
		"c1-ib":   addrs("fd00::1", "127.0.1.1", "192.168.7.1"),
		"debian":  addrs("127.0.1.1"),
		"link":    addrs("169.254.169.254", "fe80::1"),
		"mapped":  addrs("::ffff:10.1.0.1"),
		"another": addrs("10.1.0.2"),
		"node1":   addrs("10.1.0.2"),
		"node10":  addrs("10.1.0.1"),
	}
	f := Finder{
		Interfaces: func() ([]Interface, error) {
			return []Interface{
				{"lo", addrs("127.0.0.1", "::1", "127.0.1.1")},
				{"eth0", addrs("fe80::1", "fd00::1", "10.1.0.1", "169.254.169.254")},
				{"ib0", addrs("192.168.7.1")},
				{"down", nil},
			}, nil
		},
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			if found, ok := dns[name]; ok {
				return found, nil
			}
			return nil, errors.New("no such host")
		},
	}
	tests := []struct{ name, how, node, want, err string }{
		{"NodeAddr that resolves, loopback passed over", "node", "c1", "192.168.7.1", ""},
		{"NodeAddr that is an address", "node", "c2", "10.1.0.1", ""},
		{"IPv6", "node", "six", "fd00::1", ""},
		{"an address of another host", "node", "c3", "", "10.9.9.9 resolves to 10.9.9.9, which pods cannot reach: set NodeAddr"},
		{"a name that begins as another one's", "node", "node10", "10.1.0.1", ""},
		{"Debian's loopback", "node", "debian", "", "debian resolves to 127.0.1.1, which pods cannot reach"},
		{"link-local, the cloud's metadata", "node", "link", "", "which pods cannot reach"},
		{"IPv4 in IPv6", "node", "mapped", "10.1.0.1", ""},
		{"another node's", "node", "another", "", "which pods cannot reach"},
		{"unknown", "node", "nobody", "", "address of node nobody: no such host"},
		{"interface", "interface:ib0", "c1", "192.168.7.1", ""},
		{"interface, IPv4 first", "interface:eth0", "c1", "10.1.0.1", ""},
		{"loopback interface", "interface:lo", "c1", "", "no address that pods can reach"},
		{"no such interface", "interface:ib9", "c1", "", "no interface ib9"},
		{"interface without address", "interface:down", "c1", "", "no address"},
		{"subnet", "subnet:192.168.0.0/16", "c1", "192.168.7.1", ""},
		{"subnet of IPv6", "subnet:fd00::/8", "c1", "fd00::1", ""},
		{"subnet of loopback", "subnet:127.0.0.0/8", "c1", "", "no address in 127.0.0.0/8"},
		{"subnet of link-local", "subnet:169.254.0.0/16", "c1", "", "no address in"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := slurmconf.Default()
			cfg.SlurmConf, cfg.Services.Address = conf, tt.how
			got, err := f.Find(t.Context(), cfg, tt.node)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got.String())
		})
	}
}

func TestUsable(t *testing.T) {
	for _, bad := range []string{"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "255.255.255.255"} {
		assert.Error(t, Usable(netip.MustParseAddr(bad)), bad)
	}
	assert.Error(t, Usable(netip.Addr{}))
	assert.NoError(t, Usable(netip.MustParseAddr("10.0.0.1")))
}

func TestTheOtherFamilyComesFromTheSamePlace(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "slurm.conf")
	require.NoError(t, os.WriteFile(conf, []byte("NodeName=one NodeAddr=10.1.0.1\n"), 0o644))
	f := Finder{
		Interfaces: func() ([]Interface, error) {
			return []Interface{{"eth0", addrs("fe80::1", "fd00::1", "fd00::2", "10.1.0.1")}, {"ib0", addrs("192.168.7.1")}}, nil
		},
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			return map[string][]netip.Addr{"both": addrs("fd00::1", "10.1.0.1"), "other": addrs("fd09::1", "10.1.0.1")}[name], nil
		},
	}
	for _, tt := range []struct{ how, node, first, second string }{
		{"interface:eth0", "one", "10.1.0.1", "fd00::1"},
		{"interface:ib0", "one", "192.168.7.1", "invalid IP"},
		{"subnet:10.0.0.0/8", "one", "10.1.0.1", "invalid IP"},
		{"subnet:fd00::/8", "one", "fd00::1", "invalid IP"},
		{"node", "one", "10.1.0.1", "invalid IP"},
		{"node", "both", "10.1.0.1", "fd00::1"},
		{"node", "other", "10.1.0.1", "invalid IP"}, // another host's
	} {
		cfg := slurmconf.Default()
		cfg.SlurmConf, cfg.Services.Address = conf, tt.how
		first, second, err := f.FindBoth(t.Context(), cfg, tt.node)
		require.NoError(t, err, tt)
		assert.Equal(t, tt.first+" "+tt.second, first.String()+" "+second.String(), tt)
	}
}
