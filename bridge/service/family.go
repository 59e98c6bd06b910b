package service

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// familyOf is the family of an address, as Services and EndpointSlices name it.
func familyOf(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// family chooses the families of a Service by the addresses that are published: to a cluster
// IP of another family kube-proxy knows no endpoint. A node that has both leaves the choice
// to the cluster. A headless Service has no cluster IP: Kubernetes gives it both families,
// and DNS answers with what its slices have. One with a selector has the families of the
// cluster's pods.
func (m maker) family(s Spec, spec map[string]any) {
	switch {
	case s.Headless() || s.Internal():
	case m.second.IsValid():
		spec["ipFamilyPolicy"] = "PreferDualStack"
	default:
		spec["ipFamilies"] = []any{familyOf(m.address)}
		spec["ipFamilyPolicy"] = "SingleStack"
	}
}

// published are the node's addresses that a Service can lead to; the first one comes first.
func (m maker) published(service *unstructured.Unstructured) []netip.Addr {
	families, known, _ := unstructured.NestedStringSlice(service.Object, "spec", "ipFamilies")
	if !known {
		return []netip.Addr{m.address}
	}
	var addresses []netip.Addr
	for _, a := range m.addresses() {
		if slices.Contains(families, familyOf(a)) {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// addresses are those of the node: one, or one of each family.
func (m maker) addresses() []netip.Addr {
	if m.second.IsValid() {
		return []netip.Addr{m.address, m.second}
	}
	return []netip.Addr{m.address}
}

// mayBoth does without the second address if admission refuses it: the ConfigMap of the
// nodes' addresses may list the first one only. It is asked before there is a Service that
// has both families.
func (r *Registrar) mayBoth(ctx context.Context, s Spec) error {
	if s.Internal() || r.secondAllowed || !r.Second.IsValid() {
		return nil
	}
	err := r.users().check(ctx, EndpointSlices, r.maker().slice(s, r.Second, job.OwnerReference(r.Job.LeaseName(), "0"), NotReady))
	if kube.Is(err, kube.Refusal) {
		r.Log.Warnf("publishing %s only, not %s: %v", r.Address, r.Second, err)
		r.Second, err = netip.Addr{}, nil
	}
	if kube.Is(err, kube.Exists) { // of this node's earlier run
		err = nil
	}
	r.secondAllowed = err == nil
	return err
}

// mayHeadless refuses a headless Service whose only address is of a family that the cluster
// has not: Kubernetes makes it, and no pod can reach what DNS answers. A Service with a
// cluster IP, which is not stored, tells. IPv4 is taken for granted, as nearly every cluster
// has it.
func (r *Registrar) mayHeadless(ctx context.Context, s Spec) error {
	if !s.Headless() || r.Second.IsValid() || r.Address.Is4() {
		return nil
	}
	s.Expose = slurmconf.ExposeClusterIP
	err := r.users().check(ctx, Services, r.maker().service(s, job.OwnerReference(r.Job.LeaseName(), "0")))
	if kube.Is(err, kube.Exists) {
		return nil
	}
	return r.maker().byFamily(s, err)
}

// otherFamily is the error for a node that has no address of the Service's families.
func (m maker) otherFamily(s Spec, service *unstructured.Unstructured) error {
	families, _, _ := unstructured.NestedStringSlice(service.Object, "spec", "ipFamilies")
	return job.Refusef("%s has %s only, and node %s publishes its %s address %s: all its nodes need an address of one family",
		s.Object(), strings.Join(families, " and "), m.node, familyOf(m.address), m.address)
}

// sameFamilies tells whether a Service has the families that are wanted, if any are.
func sameFamilies(found, wanted *unstructured.Unstructured) bool {
	has, known, _ := unstructured.NestedStringSlice(found.Object, "spec", "ipFamilies")
	wants, some, _ := unstructured.NestedStringSlice(wanted.Object, "spec", "ipFamilies")
	return !known || !some || slices.Equal(has, wants)
}

// byFamily is the error of a create. Kubernetes refuses a Service of a family that the
// cluster has not, in words that leave the node out.
func (m maker) byFamily(s Spec, err error) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) || !apierrors.IsInvalid(status) || status.Status().Details == nil {
		return err
	}
	for _, cause := range status.Status().Details.Causes {
		if strings.HasPrefix(cause.Field, "spec.ipFamilies") {
			return &job.Refused{Text: fmt.Sprintf("%s: node %s publishes its %s address %s, and this Kubernetes cluster has no %s Services: "+
				"the administrator chooses another address with services.address in slurmk8s.toml",
				s.Object(), m.node, familyOf(m.address), m.address, familyOf(m.address)), Err: err}
		}
	}
	return err
}
