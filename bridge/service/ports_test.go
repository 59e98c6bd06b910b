package service

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
)

func anyPort(Spec, uint16) bool { return true }

// only allows some ports.
func only(ports ...uint16) func(Spec, uint16) bool {
	return func(_ Spec, port uint16) bool {
		for _, p := range ports {
			if p == port {
				return true
			}
		}
		return false
	}
}

func auto(t *testing.T, text string) []Spec {
	t.Helper()
	specs, err := Parse(text, nil)
	require.NoError(t, err)
	return specs
}

// threePorts are free ones in a row outside of those that are tried first.
func threePorts(t *testing.T) (a, b, c uint16) {
	t.Helper()
	for a := uint16(15000); a < 19000; a += 3 {
		if isFree(false, a) && isFree(false, a+1) && isFree(false, a+2) && isFree(true, a) {
			return a, a + 1, a + 2
		}
	}
	t.Fatal("no free ports")
	return 0, 0, 0
}

func TestAFreePortIsChosen(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	specs := auto(t, "name=a,port=web:80:auto,port=fixed:90:91,port=dns:53:auto/udp")
	require.NoError(t, d.ChoosePorts(t.Context(), 12, specs, anyPort))
	web, dns := specs[0].Ports[0].Target, specs[0].Ports[2].Target
	assert.True(t, web >= firstChosen && web <= lastChosen, web)
	assert.True(t, dns >= firstChosen && dns <= lastChosen, dns)
	assert.NotEqual(t, web, dns)
	assert.Equal(t, uint16(91), specs[0].Ports[1].Target)

	again := auto(t, "name=a,port=web:80:auto,port=fixed:90:91,port=dns:53:auto/udp")
	require.NoError(t, d.ChoosePorts(t.Context(), 12, again, anyPort))
	assert.Equal(t, specs, again, "another step of the job has the same")

	nothing := Records(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, nothing.ChoosePorts(t.Context(), 12, auto(t, "a:80"), anyPort))
	assert.NoDirExists(t, string(nothing), "who does not ask pays nothing")
}

// What else has a port of the node: a process, which may listen on one address only, and a
// job that has not begun to listen.
func TestAPortThatSomebodyHasIsNotChosen(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	listens, given, free := threePorts(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", listens))
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, d.ChoosePorts(t.Context(), 11, auto(t, "a:80:auto"), only(given)))

	specs := auto(t, "a:80:auto")
	require.NoError(t, d.ChoosePorts(t.Context(), 12, specs, only(listens, given, free)))
	assert.Equal(t, free, specs[0].Ports[0].Target)
	var refused *job.Refused
	require.ErrorAs(t, d.ChoosePorts(t.Context(), 13, auto(t, "name=b,port=80:auto,ns=x"), only(listens, given, free)), &refused)
	assert.EqualError(t, refused, "service x/b: this node has no free port that you may use")
	require.ErrorAs(t, d.ChoosePorts(t.Context(), 12, auto(t, "b:80:auto"), only(free)), &refused, "nor for another service of the job")

	require.NoError(t, d.Forget(t.Context(), 11))
	require.NoError(t, d.ChoosePorts(t.Context(), 13, auto(t, "b:80:auto"), only(given)), "the job is over")
}

func TestAPortOfAJobWhoseProgramsAreGoneIsFreeAgain(t *testing.T) {
	d := Records(filepath.Join(t.TempDir(), "run"))
	port, _, _ := threePorts(t)
	require.NoError(t, d.ChoosePorts(t.Context(), 11, auto(t, "a:80:auto"), only(port)))
	path := filepath.Join(string(d), "ports.11")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "999999999 5 /a 80/TCP %d\ntorn\n", port), 0o600))
	require.NoError(t, d.Add(t.Context(), 11, "batch", []string{"/a"}, allowAny))
	require.Error(t, d.ChoosePorts(t.Context(), 12, auto(t, "a:80:auto"), only(port)), "another step of that job lives")
	require.NoError(t, os.Remove(filepath.Join(string(d), "job.11")))
	require.NoError(t, d.ChoosePorts(t.Context(), 12, auto(t, "a:80:auto"), only(port)))
	assert.NoFileExists(t, path)
	require.NoError(t, d.Remove(t.Context(), 12))
	assert.NoFileExists(t, filepath.Join(string(d), "ports.12"), "the last step of the job is over")
}
