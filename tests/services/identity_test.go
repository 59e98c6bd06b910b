package services

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/tests/eventually"
)

// Accounts come and go: a uid whose account was removed is nobody's, whatever the rules
// say, and what the job calls itself counts for nothing.
func TestAUIDWithoutAnAccountHasNothing(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{}) // everybody may have anything
	for _, uid := range []string{"4000000000", "4294967294", "4294967295"} {
		s := n.start(n.fields("UID="+uid, "GID="+uid, "USER_NAME=root", "K8S_REGISTER=a:8888"))
		answer := s.reply()
		s.gone()
		require.Len(t, answer, 2, uid)
		assert.NotEqual(t, "CODE=0", answer[0], uid)
	}
	assert.Empty(t, w.names())
}

// Root and the accounts of the system are users like others: a rule for one is for no
// other.
func TestNoAccountOfTheSystemHasMoreThanItsRules(t *testing.T) {
	w := newWorld(t)
	n := w.newNode(site{rules: w.aliceOnly()}) // daemon's, uid 1
	for _, uid := range []string{"0", "2", "65534"} {
		s := n.start(n.fields("UID="+uid, "GID="+uid, "USER_NAME=daemon", "K8S_REGISTER=mine:8888"))
		answer := s.reply()
		s.gone()
		assert.Equal(t, "CODE=2", answer[0], uid)
		assert.Contains(t, answer[1], "may not have services", uid)
	}
	assert.Empty(t, w.names())
}

// Slurm counts its jobs round, and a uid may be given to another account: what a dead
// job of the same number left is no claim on the new one's, nor the other way round.
func TestAJobWhoseNumberCameRoundAgain(t *testing.T) {
	w := newWorld(t)
	old := w.registrar(12) // of uid 1000
	left, err := old.Register(t.Context(), w.specs("name=a,port=8888,endpoints=both;b:8889"))
	require.NoError(t, err)
	n := w.newNode(site{})
	n.squeue(`echo "12|RUNNING|root|c1"`)
	s := n.start(n.fields("K8S_REGISTER=name=a,port=8888,ready=none")) // of uid 0
	assert.Contains(t, s.reply(), "CODE=0")
	assert.Equal(t, "0", w.get(service.Services, "a").GetAnnotations()["slurmk8s.io/uid"])
	eventually.True(t, "ready", func() bool { return n.isReady("a.alps.12.c1") })

	// The old one's program, late: only its own b goes.
	require.NoError(t, old.Deregister(t.Context(), left))
	assert.Contains(t, w.endpoint("a.alps.12.c1"), n.address.String()+" ready=true")
	assert.NotContains(t, w.names(), "services/b")
	assert.Equal(t, []string{"CODE=0"}, s.end())
	assert.Empty(t, w.names())
}
