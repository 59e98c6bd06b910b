package dwssim

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestDefinitionsServeTheVersionsAskedFor(t *testing.T) {
	type version struct {
		name            string
		served, storage bool
	}
	old4, old5 := version{"v1alpha4", false, false}, version{"v1alpha5", false, false}
	tests := []struct {
		name               string
		served, alsoStored []string
		expected           []version
	}{
		{"one", []string{"v1alpha8"}, nil, []version{old4, old5, {"v1alpha8", true, true}}},
		{"the last is stored", DefaultVersions, nil, []version{old4, old5, {"v1alpha6", true, false}, {"v1alpha7", true, true}}},
		{"one that was stored before is kept, unserved", []string{"v1alpha7"}, []string{"v1alpha5", "v1alpha6", "v1alpha7"},
			[]version{old4, old5, {"v1alpha6", false, false}, {"v1alpha7", true, true}}},
		{"an old one", []string{"v1alpha5", "v1alpha6"}, nil, []version{old4, {"v1alpha5", true, false}, {"v1alpha6", true, true}}},
	}
	for _, test := range tests {
		for _, text := range [][]byte{workflowsCRD, computesCRD} {
			t.Run(test.name, func(t *testing.T) {
				crd, err := customResourceDefinition(text, test.served, test.alsoStored)
				require.NoError(t, err)
				list, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
				require.NoError(t, err)
				var got []version
				for _, element := range list {
					fields := element.(map[string]any)
					assert.NotNil(t, fields["schema"])
					assert.NotContains(t, fields, "subresources", "DWS has no status subresource here")
					got = append(got, version{fields["name"].(string), fields["served"].(bool), fields["storage"].(bool)})
				}
				assert.Equal(t, test.expected, got)
			})
		}
	}
}

func TestAWorkflowIsPrintedInTheColumnsOfDWS(t *testing.T) {
	crd, err := customResourceDefinition(workflowsCRD, DefaultVersions, nil)
	require.NoError(t, err)
	list, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	require.NoError(t, err)
	var columns []string
	columnList, _, err := unstructured.NestedSlice(list[0].(map[string]any), "additionalPrinterColumns")
	require.NoError(t, err)
	for _, column := range columnList {
		columns = append(columns, column.(map[string]any)["name"].(string))
	}
	assert.Equal(t, []string{"STATE", "READY", "STATUS", "JOBID", "AGE",
		"DESIREDSTATE", "DESIREDSTATECHANGE", "ELAPSEDTIMELASTSTATE", "UID", "GID"}, columns)
}

func TestTheControllerMayBeHeldToARate(t *testing.T) {
	qps, burst := Options{}.rate()
	assert.Equal(t, []any{float32(-1), 0}, []any{qps, burst})
	qps, burst = Options{QPS: RealQPS}.rate()
	assert.Equal(t, []any{float32(20), 30}, []any{qps, burst})
}

func TestVersionsThatNoAPIServerWouldServeAreRefused(t *testing.T) {
	assert.NoError(t, checkVersions([]string{"v1", "v2beta1", "v1alpha7"}))
	assert.ErrorContains(t, checkVersions(nil), "no version to serve")
	assert.ErrorContains(t, checkVersions([]string{"1alpha7"}), "it is not like v1alpha7")
	assert.ErrorContains(t, checkVersions([]string{"v1", "v1"}), "v1 is given twice")
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		listen  string
		hosts   []string
		refusal string
	}{
		{"nothing is said", Options{}, "127.0.0.1:0", []string{"127.0.0.1"}, ""},
		{"loopback is listened on alone", Options{WebhookURL: "https://127.0.0.1:9000"}, "127.0.0.1:9000", []string{"127.0.0.1"}, ""},
		{"another host is listened on everywhere", Options{WebhookURL: "https://dws.example:9000/"}, ":9000", []string{"dws.example"}, ""},
		{"a service", Options{Service: "a/b"}, ":9443", []string{"b.a.svc", "b.a.svc.cluster.local"}, ""},
		{"a service without namespace", Options{Service: "b"}, "", nil, "it is not NAMESPACE/NAME"},
		{"plain HTTP", Options{WebhookURL: "http://127.0.0.1:9000"}, "", nil, "it is not https://HOST:PORT"},
		{"no port", Options{WebhookURL: "https://127.0.0.1"}, "", nil, "it is not https://HOST:PORT"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, listen, hosts, err := addresses(test.options)
			checkRefusal(t, test.refusal, err)
			assert.Equal(t, test.listen, listen)
			assert.Equal(t, test.hosts, hosts)
		})
	}
}
