package doctor

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/duty/all"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/packaging/manifests"
)

// Clocks that differ by more than this confuse Leases and make fresh credentials
// look as if they were of tomorrow.
const (
	clockWarning = 30 * time.Second
	clockFailed  = 5 * time.Minute
)

// access checks a credential from its file to the API server's clock. It returns a
// client, or nil after it reported why there is none.
func (h *host) access(ctx context.Context, r *report, path, renew string) *kube.Client {
	c, err := kube.ReadCredential(path, h.trustedOwners()...)
	if err != nil {
		r.fail(renew, "%v", err)
		return nil
	}
	now := h.o.Now()
	left := c.NotAfter.Sub(now).Round(time.Minute)
	switch {
	case c.NotAfter.IsZero():
	case now.After(c.NotAfter):
		r.fail(renew, "%s ended %s (%s)", path, c.NotAfter.Format(time.RFC3339), c.User)
		return nil
	case c.Due(now):
		r.warn(renew, "%s is valid for only %s, until %s (%s)", path, days(left), c.NotAfter.Format(time.RFC3339), c.User)
	}
	client, err := kube.For(h.cfg, path, "doctor", quiet(), kube.Trusting(h.trustedOwners()...), kube.Hasty)
	if err != nil {
		r.fail(renew, "%v", err)
		return nil
	}
	server, err := client.Look(ctx)
	if err != nil {
		r.fail("check that the API server runs and that this host reaches it; its address and authority are in "+path, "API server: %v", err)
		return nil
	}
	until := "no expiry"
	if !c.NotAfter.IsZero() {
		until = "for " + days(left)
	}
	r.ok("%s: %s, valid %s; Kubernetes %s at %s", path, orUnknown(c.User), until, server.Version, c.Server)
	h.clock(r, server.Clock)
	return client
}

func (h *host) clock(r *report, theirs time.Time) {
	if theirs.IsZero() {
		return
	}
	skew := h.o.Now().Sub(theirs).Abs()
	const do = "synchronize the clocks (chronyd, systemd-timesyncd)"
	if skew >= clockFailed {
		r.fail(do, "clock: this host and the API server differ by %s", skew.Round(time.Second))
	} else if skew >= clockWarning {
		r.warn(do, "clock: this host and the API server differ by %s", skew.Round(time.Second))
	}
}

// trustedOwners are who may own a secret besides root and ourselves: SlurmUser, when
// root looks.
func (h *host) trustedOwners() []uint32 {
	if os.Geteuid() != 0 {
		return nil
	}
	return h.slurmUID()
}

func days(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	return d.Round(time.Minute).String()
}

// quiet logs nothing: all that a person is to read is in the report.
func quiet() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}

// subjectReviews answer whether we may do something.
var subjectReviews = schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}

// duties compares the rights that the duties need with what the credential may do: that
// of nodes, or the controller's.
func (h *host) duties(ctx context.Context, r *report, client *kube.Client, onNodes bool) {
	others := map[string]*kube.Client{}
	for _, rights := range h.needed(onNodes) {
		with := client
		if path := rights.Kubeconfig; path != "" {
			if _, asked := others[path]; !asked {
				others[path] = h.access(ctx, r, path, "make "+path+" again")
			}
			with = others[path]
		}
		if with != nil {
			h.rights(ctx, r, with, rights)
		}
	}
}

// needed are the rights that the duties need as Slurm is configured here.
func (h *host) needed(onNodes bool) []duty.Rights {
	when := map[duty.Condition]bool{
		duty.Always: true, duty.BurstBuffer: h.workflows(), duty.ControllerTakes: h.controllerTakes(),
		duty.NodesRead: h.plugin != nil && argument(h.plugin, "workflows") == "on",
	}
	var needed []duty.Rights
	for _, d := range all.Used(h.cfg) {
		for _, rights := range d.Rights(h.cfg) {
			if rights.OnNodes == onNodes && when[rights.When] {
				needed = append(needed, rights)
			}
		}
	}
	return needed
}

func (h *host) rights(ctx context.Context, r *report, client *kube.Client, rights duty.Rights) {
	rules, err := manifests.Rules(rights.Role)
	if err != nil {
		r.fail("", "%v", err)
		return
	}
	if rights.Only != nil {
		rules = slices.DeleteFunc(rules, func(rule manifests.Rule) bool {
			return !rights.Only[schema.GroupResource{Group: rule.Group, Resource: rule.Resource}]
		})
	}
	compare(ctx, r, client, rules, rights.Role, rights.Namespace, func(rule manifests.Rule) bool {
		return !slices.ContainsFunc(rights.Optional, func(optional string) bool {
			return optional == duty.Everything || optional == rule.Resource || optional == rule.Verb+" "+rule.Resource
		})
	})
}

func compare(ctx context.Context, r *report, client *kube.Client, rules []manifests.Rule, role, namespace string, essential func(manifests.Rule) bool) {
	where := "in namespace " + namespace
	if namespace == "" {
		where = "in the whole cluster"
	}
	allowed := make([]bool, len(rules))
	failed := make([]error, len(rules))
	const atOnce = 8
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, rule := range rules {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			allowed[i], failed[i] = may(ctx, client, rule, namespace)
		})
	}
	group.Wait()
	var needed, useful []string
	for i, rule := range rules {
		if failed[i] != nil {
			r.fail("", "rights %s: %v", where, failed[i])
			return
		}
		switch {
		case allowed[i]:
		case essential(rule):
			needed = append(needed, rule.String())
		default:
			useful = append(useful, rule.String())
		}
	}
	do := "run slurmk8s setup, or bind " + role + " of the shipped manifests " + where
	if len(needed) > 0 {
		r.fail(do, "rights %s: may not %s", where, strings.Join(needed, ", "))
	}
	if len(useful) > 0 {
		r.warn(do+", unless this is intended", "rights %s: may not %s", where, strings.Join(useful, ", "))
	}
	if len(needed)+len(useful) == 0 {
		r.ok("rights %s: all %d of %s", where, len(rules), role)
	}
}

func may(ctx context.Context, client *kube.Client, rule manifests.Rule, namespace string) (bool, error) {
	attributes := map[string]any{
		"verb": rule.Verb, "group": rule.Group, "resource": rule.Resource, "subresource": rule.Subresource, "namespace": namespace,
	}
	if len(rule.Names) > 0 {
		attributes["name"] = rule.Names[0]
	}
	var answer *unstructured.Unstructured
	err := client.Do(ctx, "review access", func(ctx context.Context) (err error) {
		answer, err = client.Dynamic.Resource(subjectReviews).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
			"spec": map[string]any{"resourceAttributes": attributes},
		}}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return false, err
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return allowed, err
}
