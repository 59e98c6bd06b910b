package api

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// TestEveryVerbOfTheShippedRoleIsNeeded takes one verb away at a time; the other
// tests show that all of them are enough.
func TestEveryVerbOfTheShippedRoleIsNeeded(t *testing.T) {
	shared(t)
	rules := func(role *unstructured.Unstructured) []any {
		rules, _, err := unstructured.NestedSlice(role.Object, "rules")
		require.NoError(t, err)
		return rules
	}
	role := func(namespace string) *unstructured.Unstructured {
		for _, object := range manifest(t, "controller.yaml", namespace) {
			if object.GetKind() == "Role" {
				return object
			}
		}
		t.Fatal("no Role in the manifest")
		return nil
	}
	for i, rule := range rules(role("x")) {
		resources, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "resources")
		verbs, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "verbs")
		for _, verb := range verbs {
			t.Run(strings.Join(resources, ",")+" "+verb, func(t *testing.T) {
				t.Parallel()
				s := shared(t).newSite(t)
				less := role(s.namespace)
				changed := rules(less)
				kept := slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return v == verb })
				entry := changed[i].(map[string]any)
				require.NoError(t, unstructured.SetNestedStringSlice(entry, kept, "verbs"))
				if len(kept) == 0 {
					changed = slices.Delete(changed, i, i+1)
				}
				require.NoError(t, unstructured.SetNestedSlice(less.Object, changed, "rules"))
				s.c.apply(t, less)

				// Denied sooner or later: the authorizer learns of it a moment after.
				denied := ""
				eventually.True(t, "the missing right is named", func() bool { denied = s.denied(); return denied != "" })
				assert.Contains(t, denied, fmt.Sprintf("cannot %s resource", verb))
				assert.Contains(t, denied, resources[0])
				assert.Contains(t, denied, "HTTP 403")
			})
		}
	}
}

// denied runs a whole job and reconcile, and returns the first refusal.
func (s *site) denied() string {
	s.t.Helper()
	j := s.job("#DW Setup action=complete delay=100ms")
	for _, name := range []string{"job_process", "setup", "data_in", "test_data_in", "pre_run", "post_run", "data_out", "test_data_out", "job_teardown"} {
		code, message := j.run(name, "DEADLINE_MS=30000")
		for code == wire.Busy {
			code, message = j.run(name, "DEADLINE_MS=30000")
		}
		if code != wire.OK {
			return message
		}
	}
	if r := s.reconcile(); r.status != 0 {
		return r.stderr
	}
	// Nothing fails for an Event that may not be told: the log has it.
	s.job("#DW Setup action=error severity=Fatal").run("setup", "DEADLINE_MS=30000")
	return deniedEvent.FindString(s.log())
}

var deniedEvent = regexp.MustCompile(`cannot create resource .{0,4}events.*HTTP 403\)`)
