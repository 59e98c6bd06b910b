package services

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/address"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// families are those of a Service, and the one of its slice.
func (w *world) families(name, slice string) (of []string, ofSlice string) {
	w.t.Helper()
	of, _, _ = unstructured.NestedStringSlice(w.get(service.Services, name).Object, "spec", "ipFamilies")
	ofSlice, _, _ = unstructured.NestedString(w.get(service.EndpointSlices, slice).Object, "addressType")
	return of, ofSlice
}

func TestAServiceHasTheFamilyOfItsAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("api tier: needs a kube-apiserver, left out by -short")
	}
	for name, cluster := range map[string]struct{ ranges, main string }{
		"IPv4 only": {"10.96.0.0/16", "IPv4"}, "IPv4 first": {"10.96.0.0/16,fd00:96::/112", "IPv4"}, "IPv6 first": {"fd00:96::/112,10.96.0.0/16", "IPv6"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--service-cluster-ip-range=" + cluster.ranges}
			if cluster.main == "IPv6" {
				args = append(args, "--bind-address=::", "--advertise-address=::1")
			}
			server := apiserver.ForTest(t, apiserver.Options{ExtraArgs: args})
			for _, address := range []string{"10.1.0.1", "fd09::1"} {
				for _, expose := range []string{"clusterip", "nodeport", "loadbalancer", "headless"} {
					t.Run(address+" "+expose, func(t *testing.T) {
						w := newWorldOf(t, server)
						r := w.registrar(12)
						r.Address = netip.MustParseAddr(address)
						family := map[bool]string{false: "IPv4", true: "IPv6"}[r.Address.Is6()]
						regs, err := r.Register(t.Context(), w.specs("name=a,port=8888,expose="+expose))
						if name == "IPv4 only" && family == "IPv6" {
							var refused *job.Refused
							require.ErrorAs(t, err, &refused)
							assert.ErrorContains(t, err, "node c1 publishes its IPv6 address fd09::1, and this Kubernetes cluster has no IPv6 Services")
							require.NoError(t, r.Deregister(t.Context(), regs))
							assert.Empty(t, w.names())
							return
						}
						require.NoError(t, err)
						of, ofSlice := w.families("a", "a.alps.12.c1")
						assert.Equal(t, family, ofSlice)
						if expose == "headless" {
							assert.Contains(t, of, family, "DNS answers with it")
							return
						}
						assert.Equal(t, []string{family}, of)
					})
				}
			}
		})
	}
}

// A node that has both is published by both where the Service has both.
func TestANodeWithBothFamilies(t *testing.T) {
	if testing.Short() {
		t.Skip("api tier: needs a kube-apiserver, left out by -short")
	}
	const four, six = "endpointslices/a.alps.12.c1", "endpointslices/a.alps.12.c1.ipv6"
	for ranges, want := range map[string][]string{"10.96.0.0/16": {four}, "10.96.0.0/16,fd00:96::/112": {four, six}, "fd00:96::/112": {six}} {
		t.Run(ranges, func(t *testing.T) {
			args := []string{"--service-cluster-ip-range=" + ranges}
			if strings.HasPrefix(ranges, "fd00") {
				args = append(args, "--bind-address=::", "--advertise-address=::1")
			}
			server := apiserver.ForTest(t, apiserver.Options{ExtraArgs: args})
			for _, options := range []string{"expose=clusterip", "expose=headless", "host=all", "host=all,expose=clusterip"} {
				t.Run(options, func(t *testing.T) {
					w := newWorldOf(t, server)
					r := w.registrar(12)
					r.Second = netip.MustParseAddr("fd09::1")
					regs, err := r.Register(t.Context(), w.specs("name=a,port=8888,"+options))
					require.NoError(t, err)
					want := want
					if options == "expose=headless" || options == "host=all" {
						want = []string{four, six} // no cluster IP: Kubernetes gives it both everywhere
					}
					assert.Equal(t, append([]string{"leases/slurm-alps-12", "services/a"}, want...), w.names())
					require.NoError(t, r.Ready(t.Context(), regs[0]))
					for _, slice := range want {
						slice = strings.TrimPrefix(slice, "endpointslices/")
						address, family := "10.1.0.1", "IPv4"
						if strings.HasSuffix(slice, ".ipv6") {
							address, family = "fd09::1", "IPv6"
						}
						assert.Equal(t, address+" ready=true serving=true terminating=false", w.endpoint(slice))
						of, ofSlice := w.families("a", slice)
						assert.Equal(t, family, ofSlice)
						assert.Contains(t, of, family)
					}
					last := strings.TrimPrefix(want[len(want)-1], "endpointslices/")
					w.delete(service.EndpointSlices, last)
					require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
					assert.Contains(t, w.endpoint(last), " ready=true", "restored")
					require.NoError(t, r.Deregister(t.Context(), regs))
					assert.Empty(t, w.names())
				})
			}
		})
	}
}

func TestEachAddressHasItsOwnCondition(t *testing.T) {
	w := newWorld(t)
	r := w.registrar(12)
	r.Second = netip.MustParseAddr("fd09::1")
	regs, err := r.Register(t.Context(), w.specs("name=a,port=8888,expose=headless"))
	require.NoError(t, err)
	ready := func(four, six bool) {
		t.Helper()
		assert.Equal(t, fmt.Sprintf("10.1.0.1 ready=%v serving=%v terminating=false", four, four), w.endpoint("a.alps.12.c1"))
		assert.Equal(t, fmt.Sprintf("fd09::1 ready=%v serving=%v terminating=false", six, six), w.endpoint("a.alps.12.c1.ipv6"))
	}
	for _, step := range []struct {
		at        netip.Addr
		answers   bool
		four, six bool
	}{
		{r.Second, true, false, false}, // the first one decides
		{r.Address, true, true, true},
		{r.Second, false, true, false},
		{r.Second, true, true, true},
		{r.Address, false, false, false},
		{r.Second, false, false, false},
		{r.Address, true, true, false},
	} {
		require.NoError(t, r.Answers(t.Context(), regs[0], step.at, step.answers))
		ready(step.four, step.six)
	}
	w.delete(service.EndpointSlices, "a.alps.12.c1.ipv6")
	require.NoError(t, r.Renew(t.Context(), regs, time.Hour))
	ready(true, false)
	require.NoError(t, r.Terminating(t.Context(), regs[0]))
	assert.Equal(t, "10.1.0.1 ready=false serving=true terminating=true", w.endpoint("a.alps.12.c1"))
	assert.Equal(t, "fd09::1 ready=false serving=false terminating=false", w.endpoint("a.alps.12.c1.ipv6"), "nothing there to finish")
	require.NoError(t, r.Deregister(t.Context(), regs))
	assert.Empty(t, w.names())
}

// A job's server that listens on IPv4 alone, as one on 0.0.0.0, and then on both.
func TestAStepProbesBothAddresses(t *testing.T) {
	w := newWorld(t)
	card, first, second := interfaceWithBoth(t)
	n := w.newNode(site{address: "interface:" + card, services: `ready_interval = "1s"`})
	l4, err := net.Listen("tcp4", net.JoinHostPort(first.String(), "0"))
	require.NoError(t, err)
	defer l4.Close()
	port := l4.Addr().(*net.TCPAddr).Port
	s := n.start(n.fields(fmt.Sprintf("K8S_REGISTER=name=a,port=%d,expose=headless;name=b,port=%d,expose=headless,ready=none", port, port)))
	require.Contains(t, s.reply(), "CODE=0")
	eventually.True(t, "ready", func() bool { return w.isReady("a.alps.12.c1") && w.isReady("b.alps.12.c1") })
	time.Sleep(300 * time.Millisecond)
	for _, slice := range []string{"a.alps.12.c1.ipv6", "b.alps.12.c1.ipv6"} {
		assert.False(t, w.isReady(slice), "nothing listens at %s", second)
	}
	l6, err := net.Listen("tcp6", net.JoinHostPort(second.String(), fmt.Sprint(port)))
	require.NoError(t, err)
	eventually.True(t, "ready at both", func() bool { return w.isReady("a.alps.12.c1.ipv6") && w.isReady("b.alps.12.c1.ipv6") })
	require.NoError(t, l6.Close())
	eventually.True(t, "closed at the second", func() bool { return !w.isReady("a.alps.12.c1.ipv6") && !w.isReady("b.alps.12.c1.ipv6") })
	assert.True(t, w.isReady("a.alps.12.c1"))
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}

// interfaceWithBoth is one of this host that has both families.
func interfaceWithBoth(t *testing.T) (name string, first, second netip.Addr) {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range all {
		cfg := slurmconf.Default()
		cfg.Services.Address = slurmconf.AddressInterface + i.Name
		if first, second, err := (address.Finder{}).FindBoth(t.Context(), cfg, "c1"); err == nil && second.IsValid() {
			return i.Name, first, second
		}
	}
	t.Skip("no interface of this host has an IPv4 and an IPv6 address")
	return name, first, second
}

// The ConfigMap of the addresses may have been made before the node had a second one.
func TestAnAddressThatThePolicyDoesNotKnowIsLeftOut(t *testing.T) {
	w := newWorld(t)
	w.install()
	for second, policy := range map[string]string{"fd09::1": "SingleStack", "fd00::2": "PreferDualStack"} {
		r := w.registrar(12)
		r.Kube = w.client(w.credential("c2"))
		r.Node, r.Address, r.Second = "c2", netip.MustParseAddr("10.2.0.7"), netip.MustParseAddr(second)
		regs, err := r.Register(t.Context(), w.specs("a:8888"))
		require.NoError(t, err)
		got, _, _ := unstructured.NestedString(w.get(service.Services, "a").Object, "spec", "ipFamilyPolicy")
		assert.Equal(t, policy, got, "a cluster IP of IPv6 would lead nowhere")
		assert.Equal(t, []string{"leases/slurm-alps-12", "services/a", "endpointslices/a.alps.12.c2"}, w.names(), "the cluster has IPv4 only")
		require.NoError(t, r.Deregister(t.Context(), regs))
		assert.Empty(t, w.names())
	}
}

func TestANodeOfAnotherFamilyDoesNotJoinAService(t *testing.T) {
	w := newWorld(t)
	_, err := w.registrar(12).Register(t.Context(), w.specs("name=a,port=8888,host=all,expose=clusterip"))
	require.NoError(t, err)
	before := w.names()
	r := w.registrar(12)
	r.Node, r.Address = "c2", netip.MustParseAddr("fd09::2")
	regs, err := r.Register(t.Context(), w.specs("name=a,port=8888,host=all,expose=clusterip"))
	var refused *job.Refused
	require.ErrorAs(t, err, &refused)
	assert.ErrorContains(t, err, "has IPv4 only, and node c2 publishes its IPv6 address fd09::2")
	require.NoError(t, r.Deregister(t.Context(), regs))
	assert.Equal(t, before, w.names())
}

func TestATakenOverServiceGetsTheFamilyOfTheNewAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("api tier: needs a kube-apiserver, left out by -short")
	}
	w := newWorldOf(t, apiserver.ForTest(t, apiserver.Options{ExtraArgs: []string{"--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112"}}))
	before := w.registrar(11)
	_, err := before.Register(t.Context(), w.specs("a:8888"))
	require.NoError(t, err)
	r := w.registrar(12)
	r.Address = netip.MustParseAddr("fd09::1")
	r.Alive = func(context.Context, service.Claim) (bool, error) { return false, nil }
	_, err = r.Register(t.Context(), w.specs("a:8888"))
	require.NoError(t, err)
	of, ofSlice := w.families("a", "a.alps.12.c1")
	assert.Equal(t, []string{"IPv6"}, of)
	assert.Equal(t, "IPv6", ofSlice)
}
