package workflow

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// serveRight serves Roles, RoleBindings and Secrets of the namespace, under "rights/".
func (p *provider) serveRight(w http.ResponseWriter, r *http.Request) bool {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(r.URL.Path, "/apis/"+rbacGroup), "/v1/namespaces/slurm/")
	if !ok {
		if rest, ok = strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/slurm/"); !ok || !strings.HasPrefix(rest, "secrets/") {
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	path := "rights/" + rest
	body, _ := io.ReadAll(r.Body)
	object := p.objects[path]
	switch {
	case r.Method == http.MethodPatch:
		object = kubetest.Object{}
		_ = json.Unmarshal(body, &object)
		kubetest.Meta(object)["uid"] = "uid of " + rest
		p.objects[path] = object
		kubetest.JSON(w, 200, object)
	case object == nil:
		kubetest.Status(w, 404, "NotFound", rest+" not found")
	case r.Method == http.MethodDelete:
		delete(p.objects, path)
		kubetest.Status(w, 200, "", "")
	default:
		kubetest.JSON(w, 200, object)
	}
	return true
}

// rights are the Roles and RoleBindings that there are.
func (p *provider) rights() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path := range p.objects {
		if name, ok := strings.CutPrefix(path, "rights/role"); ok {
			names = append(names, "role"+name)
		}
	}
	slices.Sort(names)
	return names
}

// collectGarbage removes the Roles and RoleBindings that a Workflow owns, as Kubernetes does when
// it is gone.
func (p *provider) collectGarbage() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, object := range p.objects {
		if owners, _ := kubetest.Meta(object)["ownerReferences"].([]any); strings.HasPrefix(path, "rights/role") && len(owners) == 1 {
			delete(p.objects, path)
		}
	}
}

// withTokens is a driver of a site that gives jobs their tokens.
func (p *provider) withTokens(t *testing.T) *Driver {
	d := p.driver(t)
	d.cfg.Workflows.Token = slurmconf.TokenJob
	return d
}

var tokenRights = []string{"rolebindings/slurmk8s-bb12-token", "roles/slurmk8s-bb12-token"}

func TestOnlyTheNodesOfAJobMayReadItsTokenAndOnlyWhileItRuns(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, xfs(gib))
	d := p.withTokens(t)
	_, err := d.PreRun(bounded(t), onNodes("c01 c05"))
	require.NoError(t, err)
	require.Equal(t, tokenRights, p.rights())
	role, binding := p.objects["rights/roles/slurmk8s-bb12-token"], p.objects["rights/rolebindings/slurmk8s-bb12-token"]
	assert.Equal(t, "[map[apiGroups:[] resourceNames:[bb12-token] resources:[secrets] verbs:[get]]]", fmt.Sprint(role["rules"]),
		"neither other Secrets nor the key that signs tokens")
	assert.Equal(t, "map[apiGroup:rbac.authorization.k8s.io kind:Role name:slurmk8s-bb12-token]", fmt.Sprint(binding["roleRef"]))
	assert.Equal(t, "[map[apiGroup:rbac.authorization.k8s.io kind:User name:slurmk8s:node:c01] map[apiGroup:rbac.authorization.k8s.io kind:User name:slurmk8s:node:c05]]",
		fmt.Sprint(binding["subjects"]))
	for _, object := range []kubetest.Object{role, binding} {
		owner := kubetest.Meta(object)["ownerReferences"].([]any)[0].(kubetest.Object)
		assert.Equal(t, []any{"Workflow", "bb12", kubetest.Meta(p.Current())["uid"]}, []any{owner["kind"], owner["name"], owner["uid"]})
		assert.Equal(t, "slurmk8s", kubetest.Meta(object)["labels"].(kubetest.Object)["slurmk8s.io/managed-by"])
	}
	require.NoError(t, d.PostRun(bounded(t), theJob))
	assert.Empty(t, p.rights())
}

func TestTheEndOfAJobTakesItsTokenAwayHoweverItEnds(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, xfs(gib))
	d := p.withTokens(t)
	_, err := d.PreRun(bounded(t), onNodes("c01"))
	require.NoError(t, err)
	require.Equal(t, tokenRights, p.rights())
	_, err = d.Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.Empty(t, p.rights())
	assert.Nil(t, p.Current())
}

func TestATokenThatCannotBeRevokedStopsNoTeardown(t *testing.T) {
	p := newProvider(t)
	p.in(PreRun, xfs(gib))
	p.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, rbacGroup) {
			kubetest.Status(w, 403, "Forbidden", "rolebindings is forbidden")
			return true
		}
		return p.serve(w, r)
	}
	_, err := p.withTokens(t).Teardown(bounded(t), theJob)
	require.NoError(t, err)
	assert.Nil(t, p.Current())
}

func TestARightThatIsNotOfTheJobStays(t *testing.T) {
	p := newProvider(t)
	p.in(PreRun, xfs(gib))
	for _, right := range tokenRights {
		p.objects["rights/"+right] = kubetest.Object{"kind": "Role", "apiVersion": rbacGroup + "/v1", "metadata": kubetest.Object{"name": "slurmk8s-bb12-token", "uid": "x",
			"ownerReferences": []any{kubetest.Object{"kind": "Workflow", "uid": "another run's"}}}}
	}
	require.NoError(t, p.withTokens(t).PostRun(bounded(t), theJob))
	assert.Equal(t, tokenRights, p.rights())
}

func TestNoRightIsGivenWhereNodesShareACredentialOrTheJobHasNoToken(t *testing.T) {
	p := newProvider(t)
	p.in(Proposal, xfs(gib))
	_, err := p.driver(t).PreRun(bounded(t), onNodes("c01"))
	require.NoError(t, err)
	assert.Empty(t, p.rights(), "off is the default")

	p = newProvider(t)
	p.in(Proposal) // no container
	_, err = p.withTokens(t).PreRun(bounded(t), onNodes("c01"))
	require.NoError(t, err)
	assert.Empty(t, p.rights())
}

func TestANodeWaitsForItsRightAndReadsTheToken(t *testing.T) {
	p := newProvider(t)
	p.in(PreRun, xfs(gib))
	p.objects["rights/secrets/bb12-token"] = kubetest.Object{"kind": "Secret", "apiVersion": "v1", "data": kubetest.Object{"token": "c2VjcmV0"}}
	refusals := 2
	p.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/secrets/") && refusals > 0 {
			refusals--
			kubetest.Status(w, 403, "Forbidden", "secrets is forbidden")
			return true
		}
		return p.serve(w, r)
	}
	d := p.withTokens(t)
	delivery, err := d.Deliver(bounded(t), theJob, "c01")
	require.NoError(t, err)
	assert.Equal(t, "secret", delivery.Token)
	assert.NotContains(t, fmt.Sprint(delivery.Env), "secret")

	asked := len(p.Requests())
	other := *theJob
	other.UID = 1001
	delivery, err = d.Deliver(bounded(t), &other, "c01")
	require.NoError(t, err)
	assert.Nil(t, delivery, "who forges the number of a job is told nothing")
	assert.Len(t, p.Requests(), asked+1, "and no token is read for them")

	d.cfg.Workflows.Token = slurmconf.TokenOff
	delivery, err = d.Deliver(bounded(t), theJob, "c01")
	require.NoError(t, err)
	assert.Empty(t, delivery.Token)
}

func TestASharedCredentialIsGivenNoToken(t *testing.T) {
	p := newProvider(t)
	p.in(PreRun, xfs(gib))
	asked := 0
	p.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/secrets/") {
			asked++
			kubetest.Status(w, 403, "Forbidden", "secrets is forbidden")
			return true
		}
		return p.serve(w, r)
	}
	d := p.withTokens(t)
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"system:serviceaccount:slurm:nodes"}`))
	d.cfg.Services.Kubeconfig = kubetest.WriteKubeconfig(t, p.URL, p.CA, "token: e30."+claims+".c2ln")
	_, err := d.Deliver(bounded(t), theJob, "c01")
	require.ErrorContains(t, err, "is the credential of system:serviceaccount:slurm:nodes, not of slurmk8s:node:c01")
	assert.Equal(t, 1, asked, "it does not wait for a right that cannot come")
}

func TestATokenThatCannotBeReadIsAnError(t *testing.T) {
	p := newProvider(t)
	p.in(PreRun, xfs(gib))
	d := p.withTokens(t)
	_, err := d.Deliver(bounded(t), theJob, "c01")
	assert.ErrorContains(t, err, "the job's token: workflow slurm/bb12 names secret slurm/bb12-token, which does not exist")
	p.objects["rights/secrets/bb12-token"] = kubetest.Object{"kind": "Secret", "apiVersion": "v1", "data": kubetest.Object{"other": "c2VjcmV0"}}
	_, err = d.Deliver(bounded(t), theJob, "c01")
	assert.ErrorContains(t, err, "secret slurm/bb12-token has no token")
}

func withToken() *Delivery { return &Delivery{Of: "bb7:u1", Env: map[string]string{}, Token: "secret"} }

func TestATokenIsAFileOfItsOwnerInMemory(t *testing.T) {
	memory, err := os.MkdirTemp("/dev/shm", "slurmk8s-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(memory) })
	files, uid, gid := NodeFiles(memory), uint32(os.Getuid()), uint32(os.Getgid())
	if uid == 0 {
		uid, gid = 1000, 1001
	}
	delivery := withToken()
	require.NoError(t, files.Keep(7, uid, gid, delivery))
	path := filepath.Join(memory, "storage.7/token")
	assert.Equal(t, map[string]string{"DW_WORKFLOW_TOKEN_FILE": path}, delivery.Env)
	info, err := os.Stat(path)
	require.NoError(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	assert.Equal(t, []any{os.FileMode(0o600), uid, gid}, []any{info.Mode(), stat.Uid, stat.Gid})
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "secret", string(text))
	text, err = os.ReadFile(filepath.Join(memory, "storage.7/env"))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "secret")
	assert.Contains(t, string(text), "SETENV_DW_WORKFLOW_TOKEN_FILE="+path+"\x00")
	require.NoError(t, files.Remove(7))
	assert.NoDirExists(t, filepath.Dir(path))
}

func TestATokenComesToNoDisk(t *testing.T) {
	disk, err := os.MkdirTemp(".", ".test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(disk) })
	disk, err = filepath.Abs(disk)
	require.NoError(t, err)
	assert.ErrorContains(t, NodeFiles(disk).Keep(7, 1000, 1000, withToken()), "is not on a tmpfs")
	assert.NoFileExists(t, filepath.Join(disk, "storage.7/token"))
}
