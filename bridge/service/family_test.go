package service

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
)

// dualStack is the API server of a cluster with both families, whose admission policy knows
// all addresses, or only those of IPv4.
func dualStack(m memory, knowsAll bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Get("dryRun") == "All" && knowsAll:
			kubetest.JSON(w, http.StatusCreated, kubetest.Object{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"})
		case r.URL.Query().Get("dryRun") == "All":
			kubetest.Status(w, http.StatusUnprocessableEntity, "Invalid", "endpointslices \"a\" is forbidden: ValidatingAdmissionPolicy 'slurmk8s-nodes' denied request")
		case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/services"):
			m.ServeHTTP(httptest.NewRecorder(), r)
			for _, object := range m {
				spec, _ := object["spec"].(map[string]any)
				if spec["ipFamilyPolicy"] == "PreferDualStack" {
					spec["ipFamilies"] = []any{"IPv4", "IPv6"}
				}
				if object["kind"] == "Service" { // there is one
					kubetest.JSON(w, http.StatusCreated, object)
				}
			}
		default:
			m.ServeHTTP(w, r)
		}
	}
}

func TestTheSecondAddressIsPublishedIfAdmissionKnowsIt(t *testing.T) {
	const slices = "/apis/discovery.k8s.io/v1/namespaces/jobs/endpointslices/"
	for knowsAll, policy := range map[bool]string{true: "PreferDualStack", false: "SingleStack"} {
		m := memory{}
		s := kubetest.New(t, dualStack(m, knowsAll))
		r := wireRegistrar(t, s)
		r.Second = netip.MustParseAddr("fd09::1")
		specs, err := Parse("name=a,port=1,ns=jobs", nil)
		require.NoError(t, err)
		regs, err := r.Register(t.Context(), specs)
		require.NoError(t, err)
		assert.Equal(t, policy, m["/api/v1/namespaces/jobs/services/a"]["spec"].(map[string]any)["ipFamilyPolicy"])
		assert.Contains(t, m, slices+"a.alps.12.c1")
		assert.Equal(t, knowsAll, m[slices+"a.alps.12.c1.ipv6"] != nil)
		require.NoError(t, r.Renew(t.Context(), regs, 0))
		asked := 0
		for _, request := range s.Requests() {
			if strings.Contains(request.Query, "dryRun") {
				asked++
			}
		}
		assert.Equal(t, 1, asked, "a step asks once")
		require.NoError(t, r.Deregister(t.Context(), regs))
		assert.Empty(t, m)
	}
}
