// Package slurmtest is a scontrol of tests, which knows nodes and takes any change of a job.
package slurmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Nodes is a slurmctld of nodes: its directory holds a scontrol for slurm_bin_dir.
type Nodes struct {
	tb  testing.TB
	Dir string
}

// scontrol keeps a file for each node: State and, if there are any, Reason and ActiveFeatures.
const scontrol = `#!/bin/sh
cd %[1]q
echo "$*" >>asked
[ ! -e away ] || { echo 'slurm_load_node error: Unable to contact slurm controller (connect failure)' >&2; exit 1; }
record() {
	printf 'NodeName=%%s Arch=x86_64 CoresPerSocket=1\n   ActiveFeatures=%%s\n   Gres=(null)\n   State=%%s ThreadsPerCore=1 TmpDisk=0\n   Partitions=main\n   CurrentWatts=0 AveWatts=0\n' "$1" "$(cat "node/$1/features" 2>/dev/null || echo '(null)')" "$(cat "node/$1/state")"
	[ ! -s "node/$1/reason" ] || printf '   Reason=%%s [root@1795368080]\n' "$(cat "node/$1/reason")"
	echo
}
case "$*" in
"show config") echo "BOOT_TIME = $(cat boot)"; echo "NEXT_JOB_ID = 100" ;;
"--all show node") for n in $(ls node); do record "$n"; done ;;
"--all show node "*)
	for n in $(echo "$4" | tr , ' '); do
		[ -d "node/$n" ] || { echo "Node $n not found" >&2; exit 1; }
		record "$n"
	done ;;
"update NodeName="*)
	for n in $(echo "${2#NodeName=}" | tr , ' '); do
		state=$(sed 's/+DRAIN//' "node/$n/state")
		case "$3" in
		State=DRAIN) echo "$state+DRAIN" >"node/$n/state"; echo "${4#Reason=}" >"node/$n/reason" ;;
		State=UNDRAIN) echo "$state" >"node/$n/state"; case "$state" in DOWN*) ;; *) : >"node/$n/reason" ;; esac ;;
		ActiveFeatures=*) echo "${3#ActiveFeatures=}" >"node/$n/features" ;;
		*) exit 1 ;;
		esac
	done ;;
"update JobId="*) ;;
*) exit 1 ;;
esac
`

// NewNodes begins without nodes; slurmctld has been up for an hour.
func NewNodes(tb testing.TB, dir string) *Nodes {
	tb.Helper()
	n := &Nodes{tb, dir}
	n.write("scontrol", fmt.Sprintf(scontrol, dir), 0o755)
	n.Started(time.Now().Add(-time.Hour))
	return n
}

func (n *Nodes) write(name, text string, mode os.FileMode) {
	n.tb.Helper()
	path := filepath.Join(n.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		n.tb.Fatal(err)
	}
}

// Started is when slurmctld was started.
func (n *Nodes) Started(at time.Time) { n.write("boot", fmt.Sprintln(at.Unix()), 0o644) }

// Set gives a node a state, as "MIXED+DRAIN", and a reason; "": none.
func (n *Nodes) Set(node, state, reason string) {
	n.tb.Helper()
	n.write(filepath.Join("node", node, "state"), state+"\n", 0o644)
	n.write(filepath.Join("node", node, "reason"), reason, 0o644)
}

// Features gives a node the features that jobs can ask for, as "gpu,rabbit".
func (n *Nodes) Features(node, features string) {
	n.tb.Helper()
	n.write(filepath.Join("node", node, "features"), features+"\n", 0o644)
}

// Get is the state of a node, and its reason.
func (n *Nodes) Get(node string) (state, reason string) {
	n.tb.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(n.Dir, "node", node, name))
		if err != nil {
			n.tb.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	return read("state"), read("reason")
}

// Away makes slurmctld not answer, or answer again.
func (n *Nodes) Away(away bool) {
	n.tb.Helper()
	if away {
		n.write("away", "", 0o644)
	} else if err := os.RemoveAll(filepath.Join(n.Dir, "away")); err != nil {
		n.tb.Fatal(err)
	}
}

// Changes are the arguments of each "scontrol update" since the last call of this or of Asked.
func (n *Nodes) Changes() []string {
	return slices.DeleteFunc(n.Asked(), func(line string) bool { return !strings.HasPrefix(line, "update ") })
}

// Asked are the arguments of each scontrol since the last call.
func (n *Nodes) Asked() []string {
	path := filepath.Join(n.Dir, "asked")
	text, _ := os.ReadFile(path)
	_ = os.Remove(path)
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}
