package workflow

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

const (
	gib = 1 << 30
	tib = 1 << 40
)

// provider is a DWS whose provider has servers: three rabbits of 20 TiB with four nodes
// each, c01 to c12. It is done with each state as soon as that is asked for.
type provider struct {
	*kubetest.Workflows
	mu      sync.Mutex
	version int
	objects map[string]kubetest.Object // "servers/slurm/bb12-0"
	// onPatch is called before a Servers is changed; onWritten after that.
	onPatch, onWritten func(name string)
}

func newProvider(t *testing.T) *provider {
	p := &provider{Workflows: kubetest.NewWorkflows(t), objects: map[string]kubetest.Object{}}
	p.Before = p.serve
	system := []any{}
	for i := range 3 {
		name, computes, links, drives := fmt.Sprintf("r%d", i+1), []any{}, []any{}, []any{}
		for j := range 4 {
			node := fmt.Sprintf("c%02d", 4*i+j+1)
			computes = append(computes, kubetest.Object{"name": node})
			links = append(links, kubetest.Object{"name": node, "status": "Ready"})
		}
		for range 16 {
			drives = append(drives, kubetest.Object{"status": "Ready", "capacity": int64(20 * tib / 16)})
		}
		system = append(system, kubetest.Object{"name": name, "computesAccess": computes})
		p.put("storages/default/"+name, kubetest.Object{"spec": kubetest.Object{"state": "Enabled"}, "status": kubetest.Object{
			"status": "Ready", "devices": drives, "access": kubetest.Object{"computes": links}}})
	}
	p.put("systemconfigurations/default/default", kubetest.Object{"spec": kubetest.Object{"storageNodes": system}})
	p.React = func(o kubetest.Object) kubetest.Object {
		desired, _ := kubetest.Part(o, "spec")["desiredState"].(string)
		if desired == "" || desired == kubetest.Part(o, "status")["state"] {
			return nil
		}
		return doneAtOnce(o)
	}
	return p
}

// setUp is the driver of a job that asks for such sets, and whose setup is done.
func (p *provider) setUp(t *testing.T, breakdowns ...kubetest.Object) *Driver {
	t.Helper()
	p.in(Proposal, breakdowns...)
	d := p.driver(t)
	_, err := d.Setup(bounded(t), theJob, nil)
	require.NoError(t, err)
	return d
}

// in makes the job's Workflow be in a state, which asks for sets of storage by one
// directive each: "xfs" on nodes, or Lustre of so many bytes.
func (p *provider) in(state State, breakdowns ...kubetest.Object) {
	refs := []any{}
	for i, b := range breakdowns {
		name := fmt.Sprintf("bb12-%d", i)
		refs = append(refs, kubetest.Object{"kind": "DirectiveBreakdown", "namespace": "slurm", "name": name})
		if spec := kubetest.Part(b, "spec"); spec["directive"] == nil {
			spec["directive"] = fmt.Sprintf("#DW %d", i)
		}
		p.put("directivebreakdowns/slurm/"+name, b)
		if storage, ok := kubetest.Part(b, "status")["storage"].(kubetest.Object); ok {
			if _, given := storage["reference"]; !given {
				storage["reference"] = kubetest.Object{"kind": "Servers", "namespace": "slurm", "name": name}
				p.put("servers/slurm/"+name, kubetest.Object{"spec": kubetest.Object{}})
			}
		}
	}
	p.Change(func(kubetest.Object) kubetest.Object {
		o := is(state, state, true, "Completed")(nil)
		kubetest.Part(o, "spec")["userID"] = 1000
		kubetest.Part(o, "status")["computes"] = kubetest.Object{"name": "bb12", "namespace": "slurm"}
		if len(refs) > 0 {
			kubetest.Part(o, "status")["directiveBreakdowns"] = refs
			kubetest.Part(o, "status")["workflowToken"] = kubetest.Object{"secretName": "bb12-token", "secretNamespace": "slurm"}
		}
		return o
	})
}

func asks(physical string, sets ...any) kubetest.Object {
	locations := []any{}
	for i := range sets {
		locations = append(locations, kubetest.Object{"access": []any{kubetest.Object{"type": "physical", "priority": physical}},
			"reference": kubetest.Object{"fieldPath": fmt.Sprintf("servers.spec.allocationSets[%d]", i)}})
	}
	return kubetest.Object{"status": kubetest.Object{"ready": true, "storage": kubetest.Object{"lifetime": "job", "allocationSets": sets},
		"compute": kubetest.Object{"constraints": kubetest.Object{"location": locations}}}}
}

func xfs(bytes int64) kubetest.Object {
	return asks("mandatory", kubetest.Object{"label": "xfs", "allocationStrategy": "AllocatePerCompute", "minimumCapacity": bytes})
}

func lustre(bytes int64) kubetest.Object {
	return asks("bestEffort", kubetest.Object{"label": "ost", "allocationStrategy": "AllocateAcrossServers", "minimumCapacity": bytes,
		"constraints": kubetest.Object{"scale": 1}})
}

// uses is the breakdown of a directive that uses a persistent instance.
func uses(instance string) kubetest.Object {
	return kubetest.Object{"status": kubetest.Object{"ready": true, "compute": kubetest.Object{"constraints": kubetest.Object{"location": []any{
		kubetest.Object{"access": []any{kubetest.Object{"type": "physical", "priority": "mandatory"}},
			"reference": kubetest.Object{"kind": "Servers", "namespace": "slurm", "name": instance, "fieldPath": "servers.spec.allocationSets[0]"}}}}}}}
}

func (p *provider) put(path string, o kubetest.Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	parts := strings.Split(path, "/")
	p.version++
	meta := kubetest.Meta(o)
	meta["namespace"], meta["name"], meta["resourceVersion"] = parts[1], parts[2], strconv.Itoa(p.version)
	o["apiVersion"], o["kind"] = kubetest.Group+"/"+kubetest.Version, parts[0]
	p.objects[path] = o
}

// others have promised bytes of a rabbit.
func (p *provider) others(name, rabbit string, bytes int64) {
	p.put("servers/their/"+name, kubetest.Object{"spec": kubetest.Object{"allocationSets": []any{kubetest.Object{
		"label": "xfs", "allocationSize": bytes, "storage": []any{kubetest.Object{"name": rabbit, "allocationCount": 1}}}}}})
}

func (p *provider) has(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.objects[path] != nil
}

func (p *provider) remove(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.objects, path)
}

// placement is what a Servers is filled with: "xfs 50 [r1:2 r2:1]"; "" is nothing.
func (p *provider) placement(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var spec struct {
		AllocationSets []struct {
			Label          string
			AllocationSize int64
			Storage        []struct {
				Name            string
				AllocationCount int
			}
		}
	}
	text, _ := json.Marshal(p.objects["servers/slurm/"+name]["spec"])
	_ = json.Unmarshal(text, &spec)
	var sets []string
	for _, s := range spec.AllocationSets {
		on := []string{}
		for _, r := range s.Storage {
			on = append(on, fmt.Sprintf("%s:%d", r.Name, r.AllocationCount))
		}
		sets = append(sets, fmt.Sprintf("%s %d %v", s.Label, s.AllocationSize, on))
	}
	return strings.Join(sets, "; ")
}

// storageRequests are those for anything but the Workflow and its Computes.
func (p *provider) storageRequests() (requests []string) {
	for _, r := range p.Requests() {
		rest, ok := strings.CutPrefix(r.Path, "/apis/"+kubetest.Group+"/"+kubetest.Version+"/")
		if ok && !strings.Contains(rest, "/workflows") && !strings.Contains(rest, "/computes") {
			requests = append(requests, r.Method+" "+rest)
		}
	}
	return requests
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, "/apis/"+kubetest.Group+"/"+kubetest.Version+"/")
	if !ok {
		return p.serveRight(w, r)
	}
	namespace, resource, name := "", rest, ""
	if parts := strings.Split(rest, "/"); parts[0] == "namespaces" {
		namespace, resource = parts[1], parts[2]
		if len(parts) > 3 {
			name = parts[3]
		}
	}
	path := resource + "/" + namespace + "/" + name
	if resource == "workflows" || resource == "computes" && !p.has(path) {
		return false
	}
	if r.Method == http.MethodPatch && p.onPatch != nil {
		p.onPatch(name)
	}
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	object := p.objects[path]
	switch {
	case r.Method == http.MethodPost:
		var created kubetest.Object
		_ = json.Unmarshal(body, &created)
		p.version++
		kubetest.Meta(created)["resourceVersion"] = strconv.Itoa(p.version)
		p.objects[path+fmt.Sprint(kubetest.Meta(created)["name"])] = created
		kubetest.JSON(w, 201, created)
	case name == "":
		items := []any{}
		for path, o := range p.objects {
			if strings.HasPrefix(path, resource+"/"+namespace) {
				items = append(items, o)
			}
		}
		slices.SortFunc(items, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		kubetest.JSON(w, 200, kubetest.Object{"kind": "List", "apiVersion": kubetest.Group + "/" + kubetest.Version, "metadata": kubetest.Object{}, "items": items})
	case object == nil:
		kubetest.Status(w, 404, "NotFound", path+" not found")
	case r.Method == http.MethodPatch:
		var change kubetest.Object
		_ = json.Unmarshal(body, &change)
		if read := kubetest.Meta(change)["resourceVersion"]; (read != nil || resource != "computes") && read != kubetest.Meta(object)["resourceVersion"] {
			kubetest.Status(w, 409, "Conflict", "the object has been modified")
			break
		}
		p.version++
		kubetest.Merge(object, change)
		kubetest.Meta(object)["resourceVersion"] = strconv.Itoa(p.version)
		kubetest.JSON(w, 200, object)
		if p.onWritten != nil {
			p.mu.Unlock()
			p.onWritten(name)
			p.mu.Lock()
		}
	default:
		kubetest.JSON(w, 200, object)
	}
	p.mu.Unlock()
	return true
}

// driver is the bridge's, with a state directory of its own.
func (p *provider) driver(t *testing.T) *Driver {
	return newDriver(t, p.Workflows, func(c *slurmconf.Config) {
		c.StateDir = t.TempDir()
		c.Workflows.BusyWait = slurmconf.Duration(time.Second)
	})
}
