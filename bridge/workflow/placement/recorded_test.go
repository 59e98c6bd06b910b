package placement

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The files in testdata were recorded from the controllers of NNF (nnf-sos 7249600, with
// mocked drives) and DWS v0.1.17: one machine, what DWS asked for each kind of directive,
// and the Servers of two jobs through their lives.
func recordedSystem(t *testing.T) (System, []Rabbit) {
	t.Helper()
	var system struct {
		SystemConfiguration unstructured.Unstructured
		Storages            []unstructured.Unstructured
	}
	read(t, "system.json", &system)
	return ReadSystem(&system.SystemConfiguration), ReadAll(system.Storages, ReadRabbit)
}

func TestEveryRecordedBreakdownIsPlaced(t *testing.T) {
	system, storages := recordedSystem(t)
	var breakdowns map[string][]unstructured.Unstructured
	read(t, "breakdowns.json", &breakdowns)
	want := map[string]string{
		"container":                       "gfs2 50314572800 [r1:1 r2:1]",
		"container-mpi":                   "ost 500000000000 [r1:1 r2:1]; mgtmdt 5368709120 [r1:1]",
		"copy-in-out":                     "xfs 50314572800 [r1:1 r2:1]",
		"create-gfs2":                     "gfs2 107688755200 [r1:1 r2:1]",
		"create-lustre":                   "ost 2000000000000 [r2:1]; mgtmdt 5368709120 [r1:1]",
		"create-lustre-separate":          "ost 1000000000000 [r2:1 r3:1]; mdt 5368709120 [r1:1]; mgt 5368709120 [r1:1]",
		"create-raw":                      "raw 107688755200 [r1:1 r2:1]",
		"create-standalone-mgt":           "mgt 5368709120 [r1:1]",
		"create-xfs":                      "xfs 107688755200 [r1:1 r2:1]",
		"gfs2":                            "gfs2 1099826200576 [r1:1 r2:1]",
		"lustre":                          "ost 5497558138880 [r1:1 r2:1]; mgtmdt 5368709120 [r1:1]",
		"lustre-exclusive":                "ost 1000000000000 [r2:1]; mdt 5368709120 [r1:1]; mgt 5368709120 [r2:1]",
		"lustre-extcount":                 "ost 500000000000 [r1:1 r2:1]; mdt 4294967296 [r1:1 r2:1 r3:2]",
		"lustre-external":                 "ost 500000000000 [r1:1 r2:1]; mdt 5368709120 [r3:1]",
		"lustre-external-pool":            "ost 500000000000 [r1:1 r2:1]; mdt 5368709120 [r3:1]",
		"lustre-factor":                   "ost 650000000000 [r1:1 r2:1]; mgtmdt 5368709120 [r1:1]",
		"lustre-mgtmdt-capacity":          "ost 500000000000 [r1:1 r2:1]; mgtmdt 6442450944 [r1:1]",
		"lustre-mgtmdt-colocate":          "ost 500000000000 [r2:1 r3:1]; mgtmdt 5368709120 [r1:1]",
		"lustre-ostcount":                 "ost 333333333334 [r1:1 r2:2]; mgtmdt 5368709120 [r1:1]",
		"lustre-scale1":                   "ost 9895604649984 [r2:1]; mgtmdt 5368709120 [r1:1]",
		"lustre-scale10":                  "ost 4500000000000 [r1:1 r2:1]; mgtmdt 5368709120 [r1:1]",
		"lustre-separate":                 "ost 500000000000 [r1:1 r2:1]; mdt 5368709120 [r3:1]; mgt 5368709120 [r1:1]",
		"persistentdw-and-jobdw":          "xfs 50314572800 [r1:1 r2:1]",
		"persistentdw-gfs2":               "",
		"persistentdw-lustre":             "",
		"persistentdw-requires":           "",
		"persistentdw-xfs":                "",
		"persistentdw-xfs-while-creating": "",
		"raw":                             "raw 100314572800 [r1:1 r2:1]",
		"raw-padded":                      "raw 121200000000 [r1:1 r2:1]",
		"requires-container-auth":         "gfs2 50314572800 [r1:1 r2:1]",
		"requires-copy-offload":           "gfs2 50314572800 [r1:1 r2:1]",
		"two-lustre":                      "ost 1000000000000 [r1:1]; mgtmdt 5368709120 [r1:1] | ost 2000000000000 [r2:1]; mgtmdt 5368709120 [r2:1]",
		"xfs":                             "xfs 50314572800 [r1:1 r2:1]",
		"xfs-nopad":                       "xfs 50000000000 [r1:1 r2:1]",
		"xfs-padded":                      "xfs 121200000000 [r1:1 r2:1]",
		"xfs-labels":                      "r1 (of c01) is without label site/pool=fast [#DW jobdw type=xfs capacity=50GB name=scratch profile=labels]",
	}
	assert.Len(t, breakdowns, len(want))
	for name, recorded := range breakdowns {
		t.Run(name, func(t *testing.T) {
			parsed := ReadAll(recorded, ReadBreakdown)
			for _, b := range parsed {
				assert.True(t, b.Ready)
				assert.NotEmpty(t, b.Directive)
			}
			filled, err := Place(parsed, NewTopology(system, storages[:3], nil, nil), []string{"c01", "c05"})
			if err != nil {
				assert.EqualError(t, err, want[name])
				return
			}
			assert.Equal(t, want[name], written(filled))
		})
	}
}

func TestNodesAreNeededForWhatIsMadeOrMountedThere(t *testing.T) {
	var breakdowns map[string][]unstructured.Unstructured
	read(t, "breakdowns.json", &breakdowns)
	for name, want := range map[string]bool{
		"xfs": true, "raw": true, "gfs2": true, "create-xfs": true, "persistentdw-xfs": true, "persistentdw-and-jobdw": true,
		"lustre": false, "two-lustre": false, "create-lustre": false, "create-standalone-mgt": false, "lustre-external": false,
		// NNF makes no difference between kinds of persistent storage, nor does this.
		"persistentdw-lustre": true,
	} {
		parsed := ReadAll(breakdowns[name], ReadBreakdown)
		assert.NotEmpty(t, parsed, name)
		assert.Equal(t, want, NeedsNodes(parsed), name)
	}
}

func TestWhatServersTakeThroughTheirLives(t *testing.T) {
	var lives map[string]map[string][]unstructured.Unstructured
	read(t, "servers.json", &lives)
	taken := func(life, state string, status bool) map[string]int64 {
		servers := ReadAll(lives[life][state], ReadServers)
		if !status { // placed, and DWS has not begun
			servers[0].Ready, servers[0].Made = false, nil
		}
		return servers[0].occupied()
	}
	assert.Empty(t, taken("life-xfs", "Proposal", true))
	assert.Equal(t, map[string]int64{"r1": 100629217280, "r2": 50314608640}, taken("life-xfs", "Setup", false), "promised, rounded up")
	assert.Equal(t, map[string]int64{"r1": 100629151744, "r2": 50314608640}, taken("life-xfs", "Setup", true), "what NNF took")
	assert.Equal(t, map[string]int64{"r1": 0, "r2": 0}, taken("life-xfs", "Teardown", true))
	assert.Equal(t, map[string]int64{"r1": 5368709120, "r2": 500000030720, "r3": 500000030720}, taken("life-lustre", "Setup", true))
}

func TestARabbitHasSixteenOfItsDrives(t *testing.T) {
	system, storages := recordedSystem(t)
	topology := NewTopology(system, storages[:3], nil, nil)
	r1 := find(topology, "r1")
	assert.EqualValues(t, 16*2199023255552, r1.total)
	assert.Equal(t, "", r1.fault)
	assert.Equal(t, "Ready", r1.links["c04"])

	// The older version of the API says the same.
	older := NewTopology(system, storages[3:], nil, nil)
	assert.Equal(t, r1, find(older, "r1"))
}

func TestColocationKeysOfOtherJobs(t *testing.T) {
	at := newSite(nil)
	at.has("theirs", "mdt", "r1", gib)
	theirs := breakdown(0, parts("mdt", 5*gib, 1, "site"))
	theirs.Servers = at.servers[len(at.servers)-1].ID
	topology := NewTopology(at.system, at.rabbits, at.servers, []Breakdown{theirs})
	mine := breakdown(0, parts("mdt", 5*gib, 1, "site"))
	filled, err := Place([]Breakdown{mine}, topology, nil)
	require.NoError(t, err)
	assert.Equal(t, "mdt 5368709120 [r2:1]", written(filled))
}

func TestServersThatAreToBePlacedDoNotCount(t *testing.T) {
	at := newSite(map[string]int64{"r1": 0})
	blocked := NewTopology(at.system, at.rabbits, at.servers, nil)
	job := []Breakdown{breakdown(0, ofNodes("xfs", perCompute, 50314572800))}
	_, err := Place(job, blocked, []string{"c01"})
	assert.ErrorContains(t, err, "0.00 GiB is free")
	_, err = Place(job, NewTopology(at.system, at.rabbits, at.servers, nil, at.servers[0].ID), []string{"c01"})
	assert.NoError(t, err)
}

func TestOddObjectsAreReadAsFarAsTheyGo(t *testing.T) {
	var u unstructured.Unstructured
	require.NoError(t, u.UnmarshalJSON([]byte(`{"kind": "Servers", "apiVersion": "x/v1", "metadata": {"namespace": "slurm", "name": "bb1-0"},
		"spec": {"allocationSets": ["none", {"label": 5}]}, "status": "?"}`)))
	servers := ReadServers(&u)
	assert.Equal(t, "slurm/bb1-0", servers.ID.String())
	assert.Len(t, servers.Filled, 2)
	assert.Equal(t, Breakdown{}, ReadBreakdown(&unstructured.Unstructured{}))
}

func TestABreakdownsErrorIsRead(t *testing.T) {
	var u unstructured.Unstructured
	require.NoError(t, u.UnmarshalJSON([]byte(`{"kind": "DirectiveBreakdown", "apiVersion": "x/v1", "status": {"ready": false,
		"error": {"userMessage": "no such profile", "debugMessage": "NnfStorageProfile x not found", "severity": "Fatal"}}}`)))
	assert.Equal(t, "no such profile (NnfStorageProfile x not found)", ReadBreakdown(&u).Error)
}

// large is 1,000 rabbits with 16 nodes each, and 1,000 jobs on them.
func large() (s *site, nodes []string) {
	s = newSite(nil)
	model := s.rabbits[0]
	s.rabbits, s.servers = nil, nil
	s.system.Rabbits = map[string][]string{}
	for i := range 1000 {
		r := model
		r.Name = fmt.Sprintf("rabbit%04d", i)
		for j := range 16 {
			s.system.Rabbits[r.Name] = append(s.system.Rabbits[r.Name], fmt.Sprintf("node%05d", 16*i+j))
		}
		nodes = append(nodes, s.system.Rabbits[r.Name]...)
		s.rabbits = append(s.rabbits, r)
		s.has(fmt.Sprintf("bb%d-0", i), "xfs", r.Name, int64(i)*gib)
	}
	return s, nodes
}

func BenchmarkPlace(b *testing.B) {
	s, nodes := large()
	for name, job := range map[string][]Breakdown{
		"xfs":     {breakdown(0, ofNodes("xfs", perCompute, 50314572800))},
		"Lustre":  {breakdown(0, ost(1000*tib, 10), mgtmdt())},
		"refused": {breakdown(0, ost(100000*tib, 10), mgtmdt())},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := Place(job, NewTopology(s.system, s.rabbits, s.servers, nil), nodes)
				if (err != nil) != (name == "refused") {
					b.Fatal(err)
				}
			}
		})
	}
}

// A directive may ask for any number of bytes.
func TestAbsurdSizesDoNotMakeRoom(t *testing.T) {
	for _, s := range []Set{ofNodes("xfs", perCompute, math.MaxInt64), ofNodes("xfs", perCompute, 1<<62), ost(math.MaxInt64, 1), parts("ost", math.MaxInt64, 3)} {
		_, err := Place([]Breakdown{breakdown(0, s)}, newSite(nil).topology(), nodes("c01 c02 c03 c04"))
		var refusal *Refusal
		require.ErrorAs(t, err, &refusal)
		assert.True(t, refusal.Never)
	}
	at := newSite(nil)
	for i := range 40 { // what another workload manager has written
		at.servers = append(at.servers, Servers{Filled: []AllocationSet{{"xfs", math.MaxInt64, []Storage{{"r1", 1 << 40}}},
			{fmt.Sprint(i), math.MaxInt64, []Storage{{"r1", 1}}}}})
	}
	_, err := Place([]Breakdown{breakdown(0, ofNodes("xfs", perCompute, gib))}, at.topology(), nodes("c01"))
	assert.ErrorContains(t, err, "and 0.00 GiB is free")
}
