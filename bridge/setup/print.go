package setup

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Change is what became of one thing.
type Change string

// The changes.
const (
	Unchanged Change = "unchanged"
	Created   Change = "created"
	Changed   Change = "changed"
)

// printer tells what is done, and counts it.
type printer struct {
	out    io.Writer
	dryRun bool
	counts map[Change]int
	todo   []string // what is left to the administrator, told at the end
}

func (p *printer) did(change Change, what string) {
	if p.counts == nil {
		p.counts = map[Change]int{}
	}
	p.counts[change]++
	fmt.Fprintf(p.out, "%-10s%s\n", change, what)
}

func (p *printer) note(format string, args ...any) {
	fmt.Fprintf(p.out, "note      "+format+"\n", args...)
}

func (p *printer) later(format string, args ...any) {
	p.todo = append(p.todo, fmt.Sprintf(format, args...))
}

func (p *printer) summary() {
	created, changed := p.counts[Created], p.counts[Changed]
	switch {
	case p.dryRun:
		fmt.Fprintf(p.out, "setup: dry run, nothing was changed: %d would be created, %d changed\n", created, changed)
	case created+changed == 0:
		fmt.Fprintln(p.out, "setup: nothing to change")
	default:
		fmt.Fprintf(p.out, "setup: %d created, %d changed, %d unchanged\n", created, changed, p.counts[Unchanged])
	}
	if len(p.todo) > 0 {
		fmt.Fprintf(p.out, "\nLeft to do:\n%s\n", strings.Join(p.todo, "\n"))
	}
}

// name is "rolebinding slurm-jobs/slurmk8s-node".
func name(u *unstructured.Unstructured) string {
	path := u.GetName()
	if u.GetNamespace() != "" {
		path = u.GetNamespace() + "/" + path
	}
	return strings.ToLower(u.GetKind()) + " " + path
}

func writeYAML(to io.Writer, objects []*unstructured.Unstructured) error {
	for _, u := range objects {
		text, err := yaml.Marshal(u.Object)
		if err != nil {
			return fmt.Errorf("print %s: %w", name(u), err)
		}
		if _, err := fmt.Fprintf(to, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}

func unique(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}
