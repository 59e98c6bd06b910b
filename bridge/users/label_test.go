package users

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAUsersLabel(t *testing.T) {
	tests := []struct{ name, label, because string }{
		{"alice", "alice", ""},
		{"j-doe", "j-doe", ""},
		{"user01", "user01", ""},
		{"j.doe", "j-doe-d50cd4b1", `a Kubernetes name cannot have "."`},
		{"j_doe", "j-doe-", `a Kubernetes name cannot have "_"`},
		{"J.Doe", "j-doe-", `a Kubernetes name cannot have "J"`},
		{`CORP\jdoe`, "corp-jdoe-", `a Kubernetes name cannot have "C"`},
		{"jdoe@corp.example", "jdoe-corp-example-", `a Kubernetes name cannot have "@"`},
		{"müller", "m-ller-", `a Kubernetes name cannot have "ü"`},
		{"_", "u-", `a Kubernetes name cannot have "_"`},
		{"a*", "a-", `a Kubernetes name cannot have "*"`},
		{"alice-", "alice-", "a Kubernetes name begins and ends with a letter or digit"},
		{"j-doe-d50cd4b1", "j-doe-d50cd4b1-", "the name ends like an escaped one"},
		{strings.Repeat("a", 50), strings.Repeat("a", 40) + "-", "the name is too long"},
		{strings.Repeat("é", 50), "u-", `a Kubernetes name cannot have "é"`},
	}
	dnsLabel := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	seen := map[string]string{}
	for _, tt := range tests {
		label, because := Label(tt.name)
		assert.Equal(t, tt.because, because, tt.name)
		assert.True(t, strings.HasPrefix(label, tt.label), "%s: %s", tt.name, label)
		assert.Regexp(t, dnsLabel, label)
		assert.LessOrEqual(t, len(label), 63-len("jobs-"))
		assert.Empty(t, seen[label], "%s has the label of this user", tt.name)
		seen[label] = tt.name
	}
}
