package service

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
)

// familyOf is the family of an address, as Services and EndpointSlices name it.
func familyOf(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// family chooses the Service's family by the address that is published: to a cluster IP of
// another family kube-proxy knows no endpoint. A headless Service has no cluster IP:
// Kubernetes gives it both families, and DNS answers with what its slices have. One with a
// selector has the families of the cluster's pods.
func (m maker) family(s Spec, spec map[string]any) {
	if s.Headless() || s.Internal() {
		return
	}
	spec["ipFamilies"] = []any{familyOf(m.address)}
	spec["ipFamilyPolicy"] = "SingleStack"
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
