package dwssim

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// SetHung makes the clientmountd of these nodes, and the node controllers of these rabbits, do
// nothing. All others work again.
func (s *Sim) SetHung(ctx context.Context, names ...string) error {
	return s.annotate(ctx, kindSystem, "default", HungAnnotation, strings.Join(names, ","))
}

// SetCopyFailure makes all copies fail with a message; empty lets them succeed again.
func (s *Sim) SetCopyFailure(ctx context.Context, message string) error {
	return s.annotate(ctx, kindSystem, "default", CopyAnnotation, message)
}

// SetStorageStatus gives a rabbit a status, such as Drained, Offline or Degraded; empty means Ready
// again. For Disabled, patch spec.state.
func (s *Sim) SetStorageStatus(ctx context.Context, rabbit, status string) error {
	return s.annotate(ctx, kindStorage, rabbit, StatusAnnotation, status)
}

// SetLinks gives the links of a rabbit to some of its nodes a status, such as Offline or Fenced; all
// others are Ready again.
func (s *Sim) SetLinks(ctx context.Context, rabbit string, status map[string]string) error {
	var links []string
	for _, node := range sortedKeys(status) {
		links = append(links, node+"="+status[node])
	}
	return s.annotate(ctx, kindStorage, rabbit, LinksAnnotation, strings.Join(links, ","))
}

// SetFull makes a rabbit refuse all that is not allocated yet, though it seems to have room.
func (s *Sim) SetFull(ctx context.Context, rabbit string, full bool) error {
	value := ""
	if full {
		value = "true"
	}
	return s.annotate(ctx, kindStorage, rabbit, FullAnnotation, value)
}

// Free is how many bytes of a rabbit's drives are not allocated, now. Its Storage may say otherwise.
func (s *Sim) Free(rabbit string) int64 { return s.nnf.ledger.free(rabbit) }

// annotate sets an annotation, or takes it away if the value is empty.
func (s *Sim) annotate(ctx context.Context, k kind, name, annotation, value string) error {
	var set any
	if value != "" {
		set = value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotation: set}}})
	if err != nil {
		return err
	}
	_, err = s.nnf.api.of(k, SystemNamespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("dwssim: annotate %s %s: %w", k.name, name, err)
	}
	return nil
}
