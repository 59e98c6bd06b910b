package slurmconf

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAHostlistIsAsShortAsItsNumbersLet(t *testing.T) {
	for hosts, want := range map[string]string{
		"": "", "login": "login", "c1": "c1", "c1 c2 c3": "c[1-3]", "c3 c1 c2 c1 c5": "c[1-3,5]",
		"c08 c09 c10 c11": "c[08-11]", "c9 c10": "c9,c10", "c09 c9": "c9,c09", "a1 b1 a2 x": "a[1-2],b1,x",
		"r1n1-ib r1n2-ib": "r1n1-ib,r1n2-ib", "n12345678901234": "n12345678901234",
	} {
		got := Hostlist(strings.Fields(hosts))
		assert.Equal(t, want, got)
		back, err := ExpandHostlist(got)
		require.NoError(t, err)
		for _, host := range strings.Fields(hosts) {
			assert.Contains(t, back, host)
		}
	}
}
