package services

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
)

func TestAnnotationsEndWithTheJobThatAskedForThem(t *testing.T) {
	w := newWorld(t)
	first := w.registrar(11)
	_, err := first.Register(t.Context(), w.specs("name=a,port=8888,annotation=prometheus.io/scrape=true,annotation=note=first"))
	require.NoError(t, err)
	assert.Equal(t, "true", w.get(service.Services, "a").GetAnnotations()["prometheus.io/scrape"])
	second := w.registrar(12)
	second.Alive = func(context.Context, service.Claim) (bool, error) { return false, nil }
	_, err = second.Register(t.Context(), w.specs("name=a,port=8888,annotation=note=second"))
	require.NoError(t, err)
	notes := w.get(service.Services, "a").GetAnnotations()
	assert.Equal(t, "second", notes["note"])
	assert.NotContains(t, notes, "prometheus.io/scrape")
	assert.Equal(t, "1000", notes["slurmk8s.io/uid"])
}
