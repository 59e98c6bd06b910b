package bundle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Expand makes the objects of a bundle for one request of one job. A user's mistake is a
// *job.Refused. The request has a namespace.
func (b *Bundle) Expand(r Request, f Facts) (*Rendered, error) {
	refuse := func(err error) error {
		return &job.Refused{Text: fmt.Sprintf("bundle %s: %v", r.Name, err), Err: err}
	}
	if r.Namespace == "" {
		return nil, errors.New("bundle " + r.Name + ": no namespace")
	}
	if r.Timeout > b.Timeout {
		return nil, refuse(fmt.Errorf("timeout=%s: at most %s", ShortDuration(r.Timeout), ShortDuration(b.Timeout)))
	}
	timeout := b.Timeout
	if r.Timeout > 0 {
		timeout = r.Timeout
	}
	known, err := b.facts(r, f)
	if err != nil {
		return nil, refuse(err)
	}
	known["timeout_seconds"] = int64(timeout.Seconds())
	values, err := b.values(r, known)
	if err == nil {
		err = b.checkLimits(r.Limits, values)
	}
	if err != nil {
		return nil, refuse(err)
	}
	out := &Rendered{Bundle: b, Instance: r.Instance, namespace: r.Namespace, Timeout: timeout, Values: values}
	e := expander{bundle: b, request: r, facts: f, values: maps.Clone(values)}
	maps.Copy(e.values, known)
	if err := e.phases(out); err != nil {
		return nil, refuse(err)
	}
	out.Env, err = e.environment()
	if err != nil {
		return nil, refuse(err)
	}
	return out, nil
}

// facts are what Slurm tells of the job; what is not known is missing.
func (b *Bundle) facts(r Request, f Facts) (map[string]any, error) {
	known := map[string]any{"namespace": r.Namespace, "bundle": b.Name, "instance": r.Instance}
	text := map[string]string{"cluster": f.Cluster, "user": f.User, "account": f.Account, "partition": f.Partition, "batch_host": f.BatchHost}
	for name, value := range text {
		if value == "" {
			continue
		}
		if err := checkPlain(value); err != nil {
			return nil, fmt.Errorf("%s %s: %v", name, wire.Quote(value), err)
		}
		known[name] = value
	}
	if f.ID > 0 {
		known["job"], known["uid"] = int64(f.ID), int64(f.UID)
	}
	if f.Nodes > 0 {
		known["nodes"] = int64(f.Nodes)
	}
	if seconds, err := strconv.ParseInt(f.SubmitTime, 10, 64); err == nil {
		known["submit_time"] = seconds
	}
	return known, nil
}

// values are those of all parameters that have one.
func (b *Bundle) values(r Request, known map[string]any) (map[string]any, error) {
	user, _ := known["user"].(string)
	values, err := b.given(r, user)
	if err != nil {
		return nil, err
	}
	for _, p := range b.Params {
		if _, given := values[p.Name]; given {
			continue
		}
		switch {
		case p.Type == Derived:
			continue // below: what it is derived from may come later
		case p.HasDefault:
			text, err := b.defaultOf(p, r, known)
			if err != nil {
				return nil, err
			}
			if values[p.Name], err = p.of(user).value(text); err != nil {
				return nil, fmt.Errorf("%s=%s: %v", p.Name, printable(text), err)
			}
		case p.Type == Arguments:
			values[p.Name] = []any{}
		case p.Required():
			return nil, fmt.Errorf("%s= is missing", p.Name)
		}
	}
	for _, p := range b.Params {
		if p.Type == Derived {
			values[p.Name] = values[p.From].(int64) + p.Plus
		}
	}
	return values, nil
}

// given are the values that the user wrote.
func (b *Bundle) given(r Request, user string) (map[string]any, error) {
	values := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(r.Values)) {
		text := r.Values[key]
		name, argument, isArgument := strings.Cut(key, ".")
		p := b.Param(name)
		var err error
		switch {
		case p == nil || p.Type == Derived || isArgument && p.Type != Arguments:
			return nil, b.unknown(key)
		case p.Type == Arguments && !isArgument:
			return nil, fmt.Errorf("write %s.NAME=VALUE for each argument", name)
		case isArgument:
			err = p.argument(argument, text)
			list, _ := values[name].([]any)
			values[name] = append(list, map[string]any{"name": argument, "value": text})
		default:
			values[name], err = p.of(user).value(text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %v", printable(key), printable(text), err)
		}
	}
	return values, nil
}

// unknown names the parameter that was meant.
func (b *Bundle) unknown(key string) error {
	var known []string
	for _, p := range b.Params {
		switch p.Type {
		case Derived:
		case Arguments:
			known = append(known, p.Name+".NAME")
		default:
			known = append(known, p.Name)
		}
	}
	known = append(known, slices.Sorted(maps.Keys(common))...)
	return fmt.Errorf("no parameter %s%s (slurmk8s bundle show %s)", wire.Quote(key), nearest(key, known), b.Name)
}

// defaultOf is a default with the facts of the job in it.
func (b *Bundle) defaultOf(p *Param, r Request, known map[string]any) (string, error) {
	text := p.Default
	if text == nameDefault && known["job"] == nil {
		return r.Instance, nil
	}
	var out strings.Builder
	for _, piece := range split(text) {
		value := known[piece.ref]
		if piece.ref != "" && value == nil {
			return "", fmt.Errorf("%s=: its default needs ${%s}, which is not known here", p.Name, piece.ref)
		}
		out.WriteString(piece.text + textOf(value))
	}
	return out.String(), nil
}

// expander is the visitor that puts values into templates.
type expander struct {
	bundle  *Bundle
	request Request
	facts   Facts
	values  map[string]any // of parameters and facts
}

func (e expander) key(string, place) error { return nil }

func (e expander) text(text string, at place) (any, error) {
	pieces := split(text)
	if name := wholeRef(pieces); name != "" && !at.role.isText() {
		value, err := e.value(name, at)
		return runtime.DeepCopyJSONValue(value), err
	}
	var out strings.Builder
	for _, p := range pieces {
		if p.ref == "" {
			out.WriteString(p.text)
			continue
		}
		value, err := e.value(p.ref, at)
		if err != nil {
			return nil, err
		}
		part := textOf(value)
		if at.role.isExpanded() {
			part = strings.ReplaceAll(part, "$", "$$") // the kubelet makes one of two
		}
		out.WriteString(part)
	}
	return out.String(), nil
}

func (e expander) value(name string, at place) (any, error) {
	value, ok := e.values[name]
	if !ok {
		return nil, at.errorf("${%s} is not known here", name)
	}
	return value, nil
}

func (e expander) merge(into map[string]any, from any, at place) error {
	for _, name := range mergeRefs(from) {
		entry, _ := e.values[name].(map[string]any) // none was given
		for key, value := range entry {
			if _, exists := into[key]; exists {
				return fmt.Errorf("%s=%s:%s: the bundle sets the label %s itself", name, key, value, key)
			}
			into[key] = value
		}
	}
	return nil
}

func (e expander) phases(out *Rendered) error {
	objects := map[string]string{}
	for _, template := range e.bundle.Phases {
		if !e.wanted(template) {
			continue
		}
		phase := Phase{Name: template.Name, Wait: template.Wait}
		if e.request.Wait == WaitNone && !template.OnDelete {
			phase.Wait = WaitNone
		}
		for _, t := range template.Objects {
			object, err := e.object(t)
			if err != nil {
				return err
			}
			id := object.GroupVersionKind().GroupKind().String() + " " + object.GetName()
			if other, twice := objects[id]; twice {
				return fmt.Errorf("%s and %s make the same object, %s", other, t.File, id)
			}
			objects[id] = t.File
			phase.Objects = append(phase.Objects, object)
			phase.Files = append(phase.Files, t.File)
		}
		if template.OnDelete {
			out.Delete = append(out.Delete, phase)
		} else {
			out.Phases = append(out.Phases, phase)
		}
	}
	return nil
}

// wanted tells whether the condition of a phase holds: its parameter is true, or was given.
func (e expander) wanted(phase *PhaseTemplate) bool {
	if phase.OnlyIf == "" {
		return true
	}
	value, given := e.values[phase.OnlyIf]
	return given && value != false
}

func (e expander) object(t Template) (*unstructured.Unstructured, error) {
	kind := t.Kind().Kind
	tree, err := walk(t.Object, place{file: t.File, path: kind, kind: kind}, e)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{Object: tree.(map[string]any)}
	object.SetNamespace(e.request.Namespace)
	Mark(object, e.facts, e.bundle.Name, e.request.Instance)
	return object, nil
}

// environment are the variables that the job gets.
func (e expander) environment() (map[string]string, error) {
	env := map[string]string{}
	for name, text := range e.bundle.Env {
		value, err := e.text(text, place{file: manifestName, path: "env." + name, role: inLabels})
		if err != nil {
			return nil, err
		}
		env[name] = textOf(value)
	}
	env["SLURMK8S_BUNDLE_"+strings.ToUpper(strings.ReplaceAll(e.request.Instance, "-", "_"))+"_NAMESPACE"] = e.request.Namespace
	return env, nil
}
