package bundle

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// most is a rule's limits: a name and a value in turn.
func most(words ...string) Limit {
	l := Limit{Most: map[string]string{}}
	for i := 0; i < len(words); i += 2 {
		l.Most[words[i]] = words[i+1]
	}
	return l
}

func TestARuleLimitsWhatAParameterMayBe(t *testing.T) {
	b, err := of(t, "[param.size]\ntype=\"int\"\nmax=100\ndefault=2\nhelp=\"h\"\n[param.memory]\ntype=\"quantity\"\ndefault=\"1Gi\"\nhelp=\"h\"\n"+
		"[param.total]\ntype=\"derived\"\nfrom=\"size\"\nplus=1\nhelp=\"h\"\n", configMap)
	require.NoError(t, err)
	small, large := most("size", "4", "memory", "2Gi", "other", "1"), most("size", "16", "memory", "1Gi")
	for _, tt := range []struct {
		size, memory string
		rules        []Limit
		want         string
	}{
		{"100", "9Gi", nil, ""},
		{"4", "2048Mi", []Limit{small}, ""},
		{"5", "1Gi", []Limit{small}, "bundle b: size=5: you may have at most 4 (limits of [[bundles.allow]])"},
		{"4", "2049Mi", []Limit{small}, "bundle b: memory=2049Mi: you may have at most 2Gi (limits of [[bundles.allow]])"},
		{"16", "1Gi", []Limit{small, large}, ""},
		{"16", "2Gi", []Limit{small, large}, "bundle b: size=16: you may have at most 4 (limits of [[bundles.allow]])"},
		{"16", "2Gi", []Limit{small, {}}, ""},
		{"3", "1Gi", []Limit{most("total", "3")}, "bundle b: total=4: you may have at most 3 (limits of [[bundles.allow]])"},
		{"3", "1Gi", []Limit{most("size", "4Gi")}, "bundle b: limits of [[bundles.allow]] in slurmk8s.toml: size=4Gi is no limit for a parameter of type int"},
		{"3", "1Gi", []Limit{most("name", "4")}, "bundle b: limits of [[bundles.allow]] in slurmk8s.toml: name=4 is no limit for a parameter of type name"},
	} {
		r := request(map[string]string{"size": tt.size, "memory": tt.memory})
		r.Limits = tt.rules
		_, err := b.Expand(r, alice)
		if tt.want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, tt.want)
		}
	}
}

func TestARuleSaysWhichImagesAUserMayHave(t *testing.T) {
	b, err := of(t, "images=[\"docker.example.org/*\", \"registry.example.org/*/*\"]\n[param.image]\ntype=\"image\"\ndefault=\"docker.example.org/a:1\"\nhelp=\"h\"\n", configMap)
	require.NoError(t, err)
	ours, theirs := []string{"registry.example.org/physics/*"}, []string{"registry.example.org/biology/*", "docker.example.org/a:*"}
	const physics, biology = "registry.example.org/physics/x:2", "registry.example.org/biology/x:2"
	for _, tt := range []struct {
		image string // "": the default
		rules []Limit
		want  string
	}{
		{physics, nil, ""},
		{physics, []Limit{{}}, ""},
		{physics, []Limit{{Images: ours}}, ""},
		{physics, []Limit{{Images: theirs}, {Images: ours}}, ""},
		{physics, []Limit{{Images: theirs}}, "bundle b: image=" + physics + ": you may have registry.example.org/biology/*, docker.example.org/a:* (images of [[bundles.allow]])"},
		{biology, []Limit{{Images: ours}, {Most: map[string]string{"image": "1"}}}, "bundle b: image=" + biology + ": you may have registry.example.org/physics/* (images of [[bundles.allow]])"},
		{"", []Limit{{Images: theirs}}, ""},
		{"", []Limit{{Images: ours}}, "bundle b: image=docker.example.org/a:1: you may have registry.example.org/physics/* (images of [[bundles.allow]])"},
		{"else.example.org/x:1", []Limit{{Images: []string{"else.example.org/*"}}}, "bundle b: image=else.example.org/x:1: must match one of docker.example.org/*, registry.example.org/*/*"},
	} {
		r := request(map[string]string{})
		if tt.image != "" {
			r.Values["image"] = tt.image
		}
		r.Limits = tt.rules
		_, err := b.Expand(r, alice)
		if tt.want == "" {
			assert.NoError(t, err, tt.image)
		} else {
			assert.EqualError(t, err, tt.want)
		}
	}
}
