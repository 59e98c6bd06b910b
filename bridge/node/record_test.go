package node

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// What is sent is one request that holds the change, the record of it, and the version
// that it is for.
func TestPatch(t *testing.T) {
	one := Claim{Cluster: "alps", JobID: 12, Mode: Reclaim}
	two := Claim{Cluster: "alps", JobID: 13, Mode: Reclaim}
	lends := Claim{Cluster: "alps", JobID: 14, Mode: Lend}
	const ours = `"managedFields":[{"manager":"slurmk8s","fieldsV1":{"f:spec":{"f:unschedulable":{}}}}]`
	const theirs = `"managedFields":[{"manager":"slurmk8s","fieldsV1":{"f:metadata":{}}},{"manager":"kubectl","fieldsV1":{"f:spec":{"f:unschedulable":{}}}}]`
	held := func(claims, changed, fields, spec string) string {
		return `{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"` + claims +
			`","slurmk8s.io/changed":"` + changed + `"},` + fields + `},"spec":` + spec + `}`
	}
	tests := []struct {
		name   string
		node   string
		claims []Claim
		block  string
		want   string // "": nothing is sent
	}{
		{"the first claim cordons", `{"metadata":{"resourceVersion":"7"}}`, []Claim{one}, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps/12/0=reclaim","slurmk8s.io/changed":"cordon"}},"spec":{"unschedulable":true}}`},
		{"on a node that was cordoned nothing is changed but the record", `{"metadata":{"resourceVersion":"7"},"spec":{"unschedulable":true}}`, []Claim{one}, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps/12/0=reclaim"}}}`},
		{"the second claim only joins", held("alps/12/0=reclaim", "cordon", ours, `{"unschedulable":true}`), []Claim{one, two}, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{},"annotations":{"slurmk8s.io/holders":"alps/12/0=reclaim,alps/13/0=reclaim"}}}`},
		{"a prolog that is run again sends nothing", held("alps/12/0=reclaim", "cordon", ours, `{"unschedulable":true}`), []Claim{one}, "cordon", ""},
		{"the last claim's end restores", held("alps/12/0=reclaim", "cordon", ours, `{"unschedulable":true}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null},"annotations":{"slurmk8s.io/holders":null,"slurmk8s.io/changed":null}},"spec":{"unschedulable":null}}`},
		{"but not what somebody else has set since", held("alps/12/0=reclaim", "cordon", theirs, `{"unschedulable":true}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null},"annotations":{"slurmk8s.io/holders":null,"slurmk8s.io/changed":null}}}`},
		{"nor what is no more", held("alps/12/0=reclaim", "cordon", ours, `{}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null},"annotations":{"slurmk8s.io/holders":null,"slurmk8s.io/changed":null}}}`},
		{"a node that nobody holds is left alone", `{"metadata":{"resourceVersion":"7"},"spec":{"unschedulable":true}}`, nil, "cordon", ""},
		{"a taint in place of a cordon", `{"metadata":{"resourceVersion":"7"},"spec":{"taints":[{"key":"a","effect":"NoExecute"}]}}`, []Claim{one}, "taint",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps/12/0=reclaim","slurmk8s.io/changed":"taint"}},"spec":{"taints":[{"key":"a","effect":"NoExecute"},{"key":"slurmk8s.io/reclaimed","effect":"NoSchedule"}]}}`},
		{"its end, though the administrator no longer wants taints", held("alps/12/0=reclaim", "taint", ours, `{"taints":[{"key":"slurmk8s.io/reclaimed","effect":"NoSchedule"}]}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null},"annotations":{"slurmk8s.io/holders":null,"slurmk8s.io/changed":null}},"spec":{"taints":null}}`},
		{"a holder of an unknown kind keeps the node closed", held("alps/12/0=reclaim,alps=later", "cordon", ours, `{"unschedulable":true}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null},"annotations":{"slurmk8s.io/holders":"alps=later"}}}`},
		{"and tainted", held("alps/12/0=reclaim,alps=later", "taint", ours, `{"taints":[{"key":"slurmk8s.io/reclaimed","effect":"NoSchedule"}]}`), nil, "taint",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null},"annotations":{"slurmk8s.io/holders":"alps=later"}}}`},
		{"and lent", held("alps/14/0=lend,alps=later", "lend-label", `"labels":{"slurmk8s.io/lent":"true"}`, `{}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","annotations":{"slurmk8s.io/holders":"alps=later"}}}`},
		{"but does not close one that was open", `{"metadata":{"resourceVersion":"7","annotations":{"slurmk8s.io/holders":"alps=later"}}}`, nil, "cordon", ""},
		{"a job joins a drain", held("alps=drain", "cordon", ours, `{"unschedulable":true}`), []Claim{one}, "cordon",
			`{"metadata":{"resourceVersion":"7","annotations":{"slurmk8s.io/holders":"alps/12/0=reclaim,alps=drain"}}}`},
		{"its end leaves the node to the drain", held("alps/12/0=reclaim,alps=drain", "cordon", ours, `{"unschedulable":true}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","annotations":{"slurmk8s.io/holders":"alps=drain"}}}`},
		{"a drain closes the node again", held("alps=drain", "cordon", ours, `{}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7"},"spec":{"unschedulable":true}}`},
		{"a drain of a cluster that cannot be", held("al/ps=drain", "cordon", ours, `{"unschedulable":true}`), nil, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null}}}`},
		{"lending: a label", `{"metadata":{"resourceVersion":"7"}}`, []Claim{lends}, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":"alps","slurmk8s.io/lent":"true"},"annotations":{"slurmk8s.io/holders":"alps/14/0=lend","slurmk8s.io/changed":"lend-label"}}}`},
		{"a label lent that the site has set itself stays", `{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/lent":"always","slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps/14/0=lend"}}}`, nil, "cordon",
			`{"metadata":{"resourceVersion":"7","labels":{"slurmk8s.io/held-by":null},"annotations":{"slurmk8s.io/holders":null}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := &unstructured.Unstructured{}
			require.NoError(t, json.Unmarshal([]byte(tt.node), &node.Object))
			got, err := readRecord(node).patch(tt.claims, config(func(c *slurmconf.NodeSettings) { c.Block = tt.block }))
			require.NoError(t, err)
			if tt.want == "" {
				assert.Nil(t, got)
				return
			}
			var sent, want map[string]any
			require.NoError(t, json.Unmarshal(got, &sent))
			require.NoError(t, json.Unmarshal([]byte(tt.want), &want))
			for _, patch := range []map[string]any{sent, want} { // an empty one changes nothing
				metadata := patch["metadata"].(map[string]any)
				for _, key := range []string{"labels", "annotations"} {
					if m, ok := metadata[key].(map[string]any); ok && len(m) == 0 {
						delete(metadata, key)
					}
				}
			}
			assert.Equal(t, want, sent)
		})
	}
}

func TestWhoKeepsANodeClosed(t *testing.T) {
	fields := func(manager string) string {
		return `"managedFields":[{"manager":"` + manager + `","fieldsV1":{"f:spec":{"f:unschedulable":{}}}}]`
	}
	tests := []struct {
		name, node string
		want       Closure
	}{
		{"nobody", `{"metadata":{}}`, Closure{}},
		{"somebody else", `{"metadata":{` + fields("kubectl") + `},"spec":{"unschedulable":true}}`, Closure{Cordoned: true}},
		{"nobody knows who", `{"metadata":{},"spec":{"unschedulable":true}}`, Closure{Cordoned: true}},
		{"we, for a job", `{"metadata":{"labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps/12/0=reclaim","slurmk8s.io/changed":"cordon"},` + fields("slurmk8s") + `},"spec":{"unschedulable":true}}`,
			Closure{Reclaimed: true}},
		{"we, for a drain", `{"metadata":{"labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps=drain","slurmk8s.io/drained":"alps: drained: bad DIMM","slurmk8s.io/changed":"cordon"},` + fields("slurmk8s") + `},"spec":{"unschedulable":true}}`,
			Closure{Drained: true, Why: "drained: bad DIMM"}},
		{"we, and somebody else since", `{"metadata":{"labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps=drain","slurmk8s.io/drained":"alps: down","slurmk8s.io/changed":"cordon"},` + fields("kubectl") + `},"spec":{"unschedulable":true}}`,
			Closure{Cordoned: true, Drained: true, Why: "down"}},
		{"we, and somebody has opened it", `{"metadata":{"labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps=drain","slurmk8s.io/drained":"alps: down","slurmk8s.io/changed":"cordon"}}}`,
			Closure{Drained: true, Why: "down", Undone: true}},
		{"we, and somebody has removed all annotations", `{"metadata":{` + fields("slurmk8s") + `},"spec":{"unschedulable":true}}`, Closure{}},
		{"another cluster's drain", `{"metadata":{"labels":{"slurmk8s.io/held-by":"piz"},"annotations":{"slurmk8s.io/holders":"piz=drain","slurmk8s.io/drained":"piz: down","slurmk8s.io/changed":"cordon"},` + fields("slurmk8s") + `},"spec":{"unschedulable":true}}`,
			Closure{Why: "piz: down"}},
		{"another cluster's drain, and ours", `{"metadata":{"labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps=drain,piz=drain","slurmk8s.io/drained":"piz: down","slurmk8s.io/changed":"cordon"},` + fields("slurmk8s") + `},"spec":{"unschedulable":true}}`,
			Closure{Drained: true, Why: "piz: down", Other: true}},
		{"ours, after another cluster's", `{"metadata":{"labels":{"slurmk8s.io/held-by":"alps"},"annotations":{"slurmk8s.io/holders":"alps=drain","slurmk8s.io/drained":"piz: down","slurmk8s.io/changed":"cordon"},` + fields("slurmk8s") + `},"spec":{"unschedulable":true}}`,
			Closure{Drained: true, Why: "piz: down"}},
	}
	driver := &Driver{Cfg: config(func(*slurmconf.NodeSettings) {}), Cluster: "alps"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := &unstructured.Unstructured{}
			require.NoError(t, json.Unmarshal([]byte(tt.node), &node.Object))
			assert.Equal(t, tt.want, driver.Closure(node))
		})
	}
}
