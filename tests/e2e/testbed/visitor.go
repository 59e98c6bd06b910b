package testbed

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const visitorNamespace = "e2e" // as tests/e2e/visitor/deploy.yaml has it

// Visit has a pod on a node fetch a page, and returns it.
func (b *Cluster) Visit(ctx context.Context, node, page string) (string, error) {
	pods, err := b.Kube.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(visitorNamespace).
		List(ctx, metav1.ListOptions{LabelSelector: "app=visitor", FieldSelector: "spec.nodeName=" + node + ",status.phase=Running"})
	if err != nil {
		return "", err
	}
	if len(pods.Items) == 0 {
		return "", fmt.Errorf("no visitor runs on node %s", node)
	}
	// Through the API server's proxy: its address is all that is known of the cluster.
	through := fmt.Sprintf("%s/api/v1/namespaces/%s/pods/%s:8080/proxy/?url=%s", b.apiServer, visitorNamespace, pods.Items[0].GetName(), url.QueryEscape(page))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, through, nil)
	if err != nil {
		return "", err
	}
	response, err := b.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("visit %s from node %s: %s", page, node, text)
	}
	return string(text), err
}
