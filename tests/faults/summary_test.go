package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// summary collects the matrices for a person: `go test` without -v prints none.
type summary struct{ reports []*Report }

func (b *summary) add(r *Report) { b.reports = append(b.reports, r) }

// write writes to FAULTS_REPORT, by default build/faults.txt.
func (b *summary) write(t *testing.T) {
	path := os.Getenv("FAULTS_REPORT")
	if path == "" {
		path = filepath.Join("..", "..", "build", "faults.txt")
	}
	text, passed, failed := "", 0, 0
	for _, r := range b.reports {
		p, f, _ := r.Count()
		passed, failed = passed+p, failed+f
		text += r.String() + "\n"
	}
	sum := fmt.Sprintf("%d hooks and situations: %d passed, %d failed\n", len(b.reports), passed, failed)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(legend+"\n"+text+sum), 0o644))
	fmt.Printf("%s  matrices: %s\n", sum, path)
}
