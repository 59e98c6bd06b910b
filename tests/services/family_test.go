package services

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/apiserver"
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
						if name == "IPv4 only" && family == "IPv6" && expose != "headless" {
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
