package policy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestWhichBundlesAUserMayHave(t *testing.T) {
	alice := slurmconf.BundleRule{Users: []string{"alice"}, Bundles: []string{"exporter", "argo"}, Namespaces: []string{"physics", "edge-*"}}
	own := slurmconf.BundleRule{Users: []string{"*"}, Bundles: []string{"jupyter-*"}, Namespaces: []string{"user-{user}"}}
	shared := slurmconf.BundleRule{Users: []string{"alice"}, Bundles: []string{"router"}, Namespaces: []string{"edge-*"}}
	for _, tt := range []struct {
		name, user, ask string
		rules           []slurmconf.BundleRule
		namespace       string
		refused         string
	}{
		{"nobody has any", "alice", "exporter", nil, "", "bundles are not enabled on this cluster: the administrator allows them with [[bundles.allow]] in slurmk8s.toml"},
		{"others have", "bob", "exporter", []slurmconf.BundleRule{alice}, "", "user bob may not have bundles: no [[bundles.allow]] of slurmk8s.toml allows it"},
		{"the first namespace is the default", "alice", "exporter", []slurmconf.BundleRule{alice}, "physics", ""},
		{"another namespace of the rule", "alice", "exporter ns=edge-1", []slurmconf.BundleRule{alice}, "edge-1", ""},
		{"a namespace of no rule", "alice", "exporter ns=web", []slurmconf.BundleRule{alice}, "", "bundle exporter: namespace web: user alice may use physics, edge-*"},
		{"a namespace of a rule for another bundle", "alice", "exporter ns=user-alice", []slurmconf.BundleRule{alice, own}, "", "bundle exporter: namespace user-alice: user alice may use physics, edge-*"},
		{"a bundle of no rule", "alice", "aok", []slurmconf.BundleRule{alice, own}, "", "bundle aok: user alice may use argo, exporter, jupyter-*"},
		{"the user's own namespace", "j.doe", "jupyter-proxy", []slurmconf.BundleRule{alice, own}, "user-j-doe-d50cd4b1", ""},
		{"another user's namespace", "bob", "jupyter-proxy ns=user-alice", []slurmconf.BundleRule{own}, "", "bundle jupyter-proxy: namespace user-alice: user bob may use user-bob"},
		{"no default", "alice", "router", []slurmconf.BundleRule{shared}, "", "bundle router: which namespace? write ns=, one of edge-*"},
		{"more than one may", "alice", "exporter;exporter as=b;exporter as=c", []slurmconf.BundleRule{alice}, "", "a job may have 2 bundles, not 3 (bundles.max_bundles)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := slurmconf.Default().Bundles
			cfg.Allow, cfg.MaxBundles = tt.rules, 2
			rules, err := BundlesFor(t.Context(), &cfg, &Subject{User: tt.user})
			require.NoError(t, err)
			admitted, err := rules.Admit(requests(t, tt.ask))
			if tt.refused != "" {
				require.EqualError(t, err, tt.refused)
				var refused *job.Refused
				assert.ErrorAs(t, err, &refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.namespace, admitted[0].Namespace)
		})
	}
}

func TestEachRuleHasItsOwnLimits(t *testing.T) {
	cfg := slurmconf.Default().Bundles
	cfg.Allow = []slurmconf.BundleRule{
		{Users: []string{"*"}, Bundles: []string{"*"}, Namespaces: []string{"physics"}, Limits: map[string]any{"locales": int64(4), "memory": "8Gi"}},
		{Users: []string{"alice"}, Bundles: []string{"aok"}, Namespaces: []string{"physics"}, Limits: map[string]any{"locales": int64(16)}, Images: []string{"a/*"}},
		{Users: []string{"alice"}, Bundles: []string{"aok"}, Namespaces: []string{"biology"}},
	}
	few := bundle.Limit{Most: map[string]string{"locales": "4", "memory": "8Gi"}}
	many := bundle.Limit{Most: map[string]string{"locales": "16"}, Images: []string{"a/*"}}
	for user, want := range map[string]map[string][]bundle.Limit{
		"bob":   {"aok": {few}},
		"alice": {"aok": {few, many}, "argo": {few}, "aok ns=biology": {{Most: map[string]string{}}}},
	} {
		rules, err := BundlesFor(t.Context(), &cfg, &Subject{User: user})
		require.NoError(t, err)
		for ask, limits := range want {
			admitted, err := rules.Admit(requests(t, ask))
			require.NoError(t, err)
			assert.Equal(t, limits, admitted[0].Limits, "%s: %s", user, ask)
		}
	}
}

func TestBundlesOfAnAccountAreRefusedWhereItIsUnknown(t *testing.T) {
	cfg := slurmconf.Default().Bundles
	cfg.Allow = []slurmconf.BundleRule{{Accounts: []string{"p1"}, Bundles: []string{"*"}, Namespaces: []string{"physics"}}}
	_, err := BundlesFor(t.Context(), &cfg, &Subject{User: "alice"})
	require.EqualError(t, err, "the account of the job is unknown")
}

// requests are those of directives without "#DW bundle", separated by ";".
func requests(t *testing.T, text string) []bundle.Request {
	t.Helper()
	var all []bundle.Request
	for part := range strings.SplitSeq(text, ";") {
		r, ours, err := bundle.ParseDirective("#DW bundle " + part)
		require.NoError(t, err)
		require.True(t, ours)
		all = append(all, r)
	}
	return all
}
