package bundle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Bounds of a bundle.
const (
	maxFileBytes   = 256 << 10
	maxBundleBytes = 1 << 20
	maxObjects     = 64
	maxDepth       = 64
)

// Load reads a bundle that the hooks may use: its folder, its files and every directory
// above belong to root or this process's user and are not writable by others, and no link
// leads out of the folder. The error is one line for the administrator.
func Load(dir string) (*Bundle, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	real, err := trusted(path)
	if err != nil {
		return nil, err
	}
	return load(real, filepath.Base(path), true)
}

// LoadUntrusted is Load of a folder whose owner does not matter, since nothing is made of
// it: an administrator tries a bundle before it is installed.
func LoadUntrusted(dir string) (*Bundle, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return load(path, filepath.Base(path), false)
}

// Missing says that no directory has a bundle. It is an fs.ErrNotExist.
type Missing struct {
	Name string
	Dirs []string
}

func (m *Missing) Error() string {
	names, _ := Names(m.Dirs)
	if len(names) == 0 {
		return fmt.Sprintf("bundle %s: there is none in %s", printable(m.Name), strings.Join(m.Dirs, ", "))
	}
	return fmt.Sprintf("bundle %s: there is none%s", printable(m.Name), nearest(m.Name, names))
}

func (m *Missing) Unwrap() error { return fs.ErrNotExist }

// Find loads the bundle of a name from the first of the directories that has it. If none
// has, the error is a *Missing.
func Find(dirs []string, name string) (*Bundle, error) {
	for _, dir := range dirs {
		if !isBundleName(name) {
			break
		}
		folder := filepath.Join(dir, name)
		if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return Load(folder)
	}
	return nil, &Missing{Name: name, Dirs: dirs}
}

// Names are the bundles that the directories have, whether they can be loaded or not. A
// missing directory has none.
func Names(dirs []string) ([]string, error) {
	var names []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			_, err := os.Stat(filepath.Join(dir, e.Name(), manifestName))
			if err == nil && isBundleName(e.Name()) && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// trusted follows an absolute path from the root, links included, and returns where it leads if nobody
// but root and this process's user could have changed the way.
func trusted(dir string) (string, error) {
	const maxLinks = 40
	at, links := "/", 0
	for rest := "." + dir; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			if err := checkOwner(next, info); err != nil {
				return "", err
			}
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many links", dir)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = target + "/" + rest
	}
	return at, nil
}

// checkOwner refuses what somebody else could have written. In a directory with the sticky
// bit, such as /tmp, nobody can replace what is another's.
func checkOwner(path string, info fs.FileInfo) error {
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	switch {
	case uid != 0 && uid != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d: run \"chown root %s\"", path, uid, path)
	case info.Mode().Perm()&0o022 != 0 && !sticky:
		return fmt.Errorf("%s is writable by others (mode %04o): run \"chmod go-w %s\"", path, info.Mode().Perm(), path)
	}
	return nil
}

// folder reads the files of a bundle.
type folder struct {
	root    *os.Root
	trusted bool // else owners do not matter
	bytes   int
	digest  []byte // of what was read
}

func (f *folder) read(name string) ([]byte, error) {
	// O_NONBLOCK: the open of a FIFO must not wait for a writer.
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	if f.trusted {
		if err := checkOwner(filepath.Join(f.root.Name(), name), info); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d KiB", name, maxFileBytes>>10)
	}
	if f.bytes += len(data); f.bytes > maxBundleBytes {
		return nil, fmt.Errorf("the files are larger than %d KiB together", maxBundleBytes>>10)
	}
	sum := sha256.Sum256(slices.Concat(f.digest, []byte(name+"\x00"), data))
	f.digest = sum[:]
	return data, nil
}

// load reads a folder as the bundle of a name: that of the link, if one leads to the folder.
func load(dir, name string, trusted bool) (*Bundle, error) {
	b := &Bundle{Name: name, Dir: dir}
	fail := func(err error) (*Bundle, error) { return nil, fmt.Errorf("bundle %s: %w", b.Name, err) }
	if !isBundleName(b.Name) {
		return nil, fmt.Errorf("%s: a bundle's folder has a name of at most %d lower-case letters, digits and \"-\"", dir, maxInstanceBytes)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	files := &folder{root: root, trusted: trusted}
	data, err := files.read(manifestName)
	if err != nil {
		return fail(err)
	}
	m, err := b.readManifest(data)
	if err != nil {
		return fail(err)
	}
	if err := b.readPhases(files, m.kinds); err != nil {
		return fail(err)
	}
	b.Digest = hex.EncodeToString(files.digest)
	b.measure()
	if err := b.checkParams(); err != nil {
		return fail(err)
	}
	return b, nil
}

func (b *Bundle) readPhases(files *folder, kinds []schema.GroupVersionKind) error {
	if len(b.Phases) == 0 {
		return fmt.Errorf("%s: no [[phase]]", manifestName)
	}
	names, of := map[string]bool{}, map[string]string{}
	count := 0
	for _, phase := range b.Phases {
		if names[phase.Name] {
			return fmt.Errorf("%s: two phases are called %s", manifestName, phase.Name)
		}
		names[phase.Name] = true
		if err := b.checkOnlyIf(phase); err != nil {
			return err
		}
		for _, file := range phase.Files {
			if other, twice := of[file]; twice {
				return fmt.Errorf("%s: %s is in the phases %s and %s", manifestName, file, other, phase.Name)
			}
			of[file] = phase.Name
			data, err := files.read(file)
			if err != nil {
				return err
			}
			objects, err := parseObjects(file, data)
			if err != nil {
				return err
			}
			if count += len(objects); count > maxObjects {
				return fmt.Errorf("more than %d objects", maxObjects)
			}
			phase.Objects = append(phase.Objects, objects...)
		}
		for _, t := range phase.Objects {
			if err := (checker{b, phase}).checkTemplate(t, kinds); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseObjects reads the documents of a YAML file.
func parseObjects(file string, data []byte) ([]Template, error) {
	var objects []Template
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %v", file, err)
		}
		text, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", file, strings.ReplaceAll(err.Error(), "\n", " "))
		}
		if len(text) > maxBundleBytes {
			return nil, fmt.Errorf("%s: its aliases make it larger than %d KiB", file, maxBundleBytes>>10)
		}
		var value any
		if err := utiljson.Unmarshal(text, &value); err != nil {
			return nil, fmt.Errorf("%s: %v", file, err)
		}
		if value == nil {
			continue // nothing but comments
		}
		object, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: not a Kubernetes object", file)
		}
		if depthOf(object) > maxDepth {
			return nil, fmt.Errorf("%s: nested deeper than %d", file, maxDepth)
		}
		objects = append(objects, Template{File: file, Object: object})
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("%s: no object", file)
	}
	return objects, nil
}

func (b *Bundle) checkOnlyIf(phase *PhaseTemplate) error {
	if phase.OnlyIf == "" {
		return nil
	}
	p := b.Param(phase.OnlyIf)
	if p == nil || p.Type != Bool && !p.Optional {
		return fmt.Errorf("%s: phase %s: only_if = %q must name a parameter of type bool or an optional one", manifestName, phase.Name, phase.OnlyIf)
	}
	return nil
}

// checkParams refuses defaults that are no values, and references that lead nowhere.
func (b *Bundle) checkParams() error {
	for _, p := range b.Params {
		fail := func(key, format string, args ...any) error {
			return fmt.Errorf("%s: param.%s.%s: %s", manifestName, p.Name, key, fmt.Sprintf(format, args...))
		}
		if p.Type == Derived {
			if from := b.Param(p.From); from == nil || from.Type != Int || from.Optional {
				return fail("from", "must name a parameter of type int that always has a value")
			}
		}
		if !p.HasDefault {
			continue
		}
		names := refs(p.Default)
		for _, name := range names {
			fact, ok := facts[name]
			if !ok || fact.atStart && b.When != WhenStart {
				return fail("default", "${%s}: a default can refer to facts of the job only", name)
			}
		}
		if len(names) > 0 {
			continue
		}
		if _, err := p.value(p.Default); err != nil {
			return fail("default", "%s: %v", wire.Quote(p.Default), err)
		}
	}
	for name, text := range b.Env {
		for _, ref := range refs(text) {
			p := b.Param(ref)
			_, isFact := facts[ref]
			if p == nil && !isFact || p != nil && (p.Optional || p.Type == Label || p.Type == Arguments) {
				return fmt.Errorf("%s: env.%s: ${%s} is no parameter that always has a value as text", manifestName, name, ref)
			}
			if late := b.atStart(ref); late != "" {
				return fmt.Errorf("%s: env.%s: ${%s} is not known when the variables of the job are written, before it has its nodes", manifestName, name, late)
			}
		}
	}
	return nil
}

// atStart is the fact that a reference needs and that nobody knows before the job has its
// nodes; empty: none.
func (b *Bundle) atStart(ref string) string {
	if facts[ref].atStart {
		return ref
	}
	p := b.Param(ref)
	if p != nil && p.Type == Derived {
		p = b.Param(p.From)
	}
	if p != nil {
		for _, name := range refs(p.Default) {
			if facts[name].atStart {
				return name
			}
		}
	}
	return ""
}
