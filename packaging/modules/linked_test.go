package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tooLarge are packages that would each cost the library a tenth or more of its size, in
// every slurmctld child and prolog; the typed clients twice its size. Tables are only printed by
// the program.
var tooLarge = regexp.MustCompile(`^(text/template|text/tabwriter|html/template|github\.com/spf13/cobra|k8s\.io/api|k8s\.io/client-go/(kubernetes|informers|listers|applyconfigurations)|k8s\.io/kubectl)(/|$)`)

func TestTheLibraryLinksNothingThatIsTooLarge(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "slurmk8s.io/slurmk8s/goffi").Output()
	require.NoError(t, err)
	packages := strings.Fields(string(out))
	require.Contains(t, packages, "slurmk8s.io/slurmk8s/bridge/hook")
	for _, name := range packages {
		assert.False(t, tooLarge.MatchString(name), name)
	}
	for _, name := range []string{"text/template", "text/tabwriter", "github.com/spf13/cobra/doc", "k8s.io/api/core/v1", "k8s.io/client-go/kubernetes"} {
		assert.True(t, tooLarge.MatchString(name), name)
	}
	assert.False(t, tooLarge.MatchString("k8s.io/apimachinery/pkg/types"))
}
