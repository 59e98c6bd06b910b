package bundle

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"sync"
)

// mergeKey in a map of labels adds those of label parameters: $merge: ["${match}"].
const mergeKey = "$merge"

// role is what Kubernetes does with the texts at a place of an object.
type role int

const (
	inObject  role = iota // a reference alone has its parameter's type
	inFixed               // apiVersion, kind: no reference
	inLabels              // keys and values of labels, annotations, selectors: text; $merge
	inConfig              // data of a ConfigMap: text, and nothing but a whole reference
	inEnv                 // value of an environment variable: text; the kubelet expands $(NAME)
	inCommand             // element of command and args: so too, and no user's text in a part
	inScript              // element that a shell or an interpreter runs: no reference
)

// isText tells whether values become text, whatever their type.
func (r role) isText() bool { return r >= inLabels }

// isExpanded tells whether the kubelet expands $(NAME) there.
func (r role) isExpanded() bool { return r >= inEnv }

// place is where in an object a value is.
type place struct {
	file, path string // "service.yaml", "Service.spec.ports[0].name"
	kind       string // of the object
	role       role
	depth      int
	inEnvList  bool // the elements are variables with name and value
}

func (p place) String() string { return p.file + ": " + p.path }

func (p place) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %s", p, fmt.Sprintf(format, args...))
}

// labelMaps are keys whose values map text to text in every kind.
var labelMaps = map[string]bool{"labels": true, "annotations": true, "matchLabels": true, "nodeSelector": true, "matchExpressions": true}

// field is the place of a key of a map that is at p.
func (p place) field(key string) place {
	below := p
	below.path, below.depth, below.inEnvList = p.path+"."+key, p.depth+1, false
	if p.role != inObject {
		return below
	}
	switch {
	case p.depth == 0 && (key == "apiVersion" || key == "kind"):
		below.role = inFixed
	case p.depth == 0 && p.kind == "ConfigMap" && (key == "data" || key == "binaryData"):
		below.role = inConfig
	case labelMaps[key], p.depth == 1 && p.kind == "Service" && key == "selector":
		below.role = inLabels
	case key == "command", key == "args":
		below.role = inCommand
	case key == "env":
		below.inEnvList = true
	case p.inEnvList && key == "value":
		below.role = inEnv
	}
	return below
}

// element is the place of an element of a list that is at p.
func (p place) element(i int) place {
	p.path += "[" + strconv.Itoa(i) + "]"
	p.depth++
	return p
}

// visitor is what walk does with an object: check it, or put values into it.
type visitor interface {
	key(key string, at place) error
	text(text string, at place) (any, error)
	merge(into map[string]any, from any, at place) error
}

// walk returns a copy of a tree in which each text is what the visitor makes of it.
func walk(value any, at place, v visitor) (any, error) {
	switch value := value.(type) {
	case map[string]any:
		return walkMap(value, at, v)
	case []any:
		return walkList(value, at, v, func(int) role { return at.role })
	case string:
		return v.text(value, at)
	}
	return value, nil
}

func walkList(value []any, at place, v visitor, roleOf func(i int) role) (any, error) {
	list := make([]any, len(value))
	for i := range value {
		element := at.element(i)
		element.role = roleOf(i)
		var err error
		if list[i], err = walk(value[i], element, v); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func walkMap(value map[string]any, at place, v visitor) (any, error) {
	out := make(map[string]any, len(value))
	for _, key := range slices.Sorted(maps.Keys(value)) {
		if key == mergeKey {
			continue
		}
		below := at.field(key)
		err := v.key(key, below)
		if err != nil {
			return nil, err
		}
		if list, ok := value[key].([]any); ok && below.role == inCommand && at.role == inObject {
			out[key], err = walkList(list, below, v, commandRoles(value, key))
		} else {
			out[key], err = walk(value[key], below, v)
		}
		if err != nil {
			return nil, err
		}
	}
	if from, ok := value[mergeKey]; ok {
		if err := v.merge(out, from, at.field(mergeKey)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// commandRoles tells the roles of the elements of command or args of a container, which are
// one command line.
func commandRoles(container map[string]any, key string) func(i int) role {
	command, _ := container["command"].([]any)
	line, before := command, 0
	if key == "args" {
		args, _ := container["args"].([]any)
		line, before = slices.Concat(command, args), len(command)
	}
	return func(i int) role {
		if isScript(line, before+i, len(command) > 0) {
			return inScript
		}
		return inCommand
	}
}

// Expressions are compiled when they are first used, and not at the start of each hook.
var (
	// scriptFlag is what shells and interpreters take a script after: sh -c, bash -lc, perl -e.
	scriptFlag = lazily(`\A(-[a-zA-Z]*[ce]|--eval|--command)\z`)

	// interpreters are the programs for which a scriptFlag counts; of another program -c may be
	// a file of configuration.
	interpreters = lazily(`\A((ba|da|a|z|k|c|fi)?sh|busybox|python[0-9.]*|perl|ruby|node|env|sudo|su|lua[0-9.]*|php)\z`)
)

func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// isScript tells whether the i-th element of a command line is a script. A line without
// command is for a program that the image names: it may be a shell.
func isScript(line []any, i int, hasCommand bool) bool {
	if i == 0 {
		return false
	}
	flag, _ := line[i-1].(string)
	program, _ := line[0].(string)
	return scriptFlag().MatchString(flag) && (!hasCommand || interpreters().MatchString(path.Base(program)))
}

// depthOf is how deep a tree nests.
func depthOf(value any) int {
	deepest := 0
	switch value := value.(type) {
	case map[string]any:
		for _, v := range value {
			deepest = max(deepest, depthOf(v))
		}
	case []any:
		for _, v := range value {
			deepest = max(deepest, depthOf(v))
		}
	default:
		return 0
	}
	return deepest + 1
}
