package hook

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// FuzzRequest: whatever a request holds, it is read or refused in one line.
func FuzzRequest(f *testing.F) {
	f.Add("JOB_ID=12\x00UID=1000\x00GID=100\x00NODES=c[1-3,5]\x00HURRY=true")
	f.Add("JOB_ID=4294967296\x00NODES=c[1-99999999]")
	f.Add("JOB_ID=-1\x00\x00=\x00NODES=[[[")
	f.Fuzz(func(t *testing.T, text string) {
		fields, err := wire.ParseFields(strings.Split(text, "\x00"))
		if err == nil {
			_, err = jobOf(fields)
		}
		if err != nil {
			message := wire.Line(err.Error())
			assert.NotContains(t, message, "\n")
			assert.NotEmpty(t, message)
		}
	})
}
