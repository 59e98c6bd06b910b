package node

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// brokenWatch is a client with a defect of ours.
type brokenWatch struct {
	dynamic.Interface
	dynamic.NamespaceableResourceInterface
}

func (b brokenWatch) Resource(r schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return brokenWatch{NamespaceableResourceInterface: b.Interface.Resource(r)}
}

func (brokenWatch) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	panic("no watch")
}

func TestAPanicWhileAWatchOfPodsIsOpenedIsTheHooksError(t *testing.T) {
	s := kubetest.New(t, func(w http.ResponseWriter, r *http.Request) {
		kubetest.JSON(w, 200, kubetest.Object{"kind": "PodList", "apiVersion": "v1", "metadata": kubetest.Object{"resourceVersion": "1"}, "items": []any{}})
	})
	log := logrus.NewEntry(logrus.New())
	client, err := kube.New(kube.Options{Kubeconfig: s.Kubeconfig(), RequestTimeout: 10 * time.Second, Log: log})
	require.NoError(t, err)
	client.Dynamic = brokenWatch{Interface: client.Dynamic}
	b := &Bridge{Cfg: &slurmconf.Default().Nodes, Kube: client, Log: log}
	for n := range b.follow(t.Context(), "c1") {
		if n.err != nil {
			require.ErrorContains(t, n.err, "watch pods of node c1: internal error: no watch: please report it")
			return
		}
	}
	t.Fatal("the watch ended without an error")
}
