// Command modules says what the program and the library are built from: the Go modules whose
// packages are linked in, and their licences. A licence that is not on the list of licence.go,
// or none, is an error.
//
//	modules PACKAGE...                     check
//	modules -sbom FILE -texts FILE ...     and write an SBOM (CycloneDX), and all licences' texts
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	sbom := flag.String("sbom", "", "write an SBOM to this file")
	texts := flag.String("texts", "", "write the texts of all licences to this file")
	version := flag.String("version", "", "of slurmk8s, for the SBOM")
	flag.Parse()
	if err := run(flag.Args(), *version, *sbom, *texts); err != nil {
		fmt.Fprintln(os.Stderr, "modules:", err)
		os.Exit(1)
	}
}

func run(packages []string, version, sbom, texts string) error {
	if len(packages) == 0 {
		return errors.New("no package was named: modules ./bridge/cmd/slurmk8s ./goffi")
	}
	modules, err := linked(packages)
	if err != nil {
		return err
	}
	var problems []error
	for _, m := range modules {
		problems = append(problems, m.judge())
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if sbom != "" {
		document, err := cycloneDX(version, modules)
		if err != nil {
			return err
		}
		if err := os.WriteFile(sbom, document, 0o644); err != nil {
			return err
		}
	}
	if texts != "" {
		if err := os.WriteFile(texts, []byte(allTexts(modules)), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("licences: %d modules, all allowed\n", len(modules))
	return nil
}

// module is one that has at least one package linked in. Go itself, whose standard library
// and runtime are in every program, is one too.
type module struct {
	Path    string
	Version string
	texts   []text
}

// text is a licence file.
type text struct {
	file string // in its module
	body string
	ids  []string
}

// linked lists the modules of all packages that the named ones need, without our own.
func linked(packages []string) ([]*module, error) {
	const fields = "-json=ImportPath,Dir,Standard,Module,Root"
	command := exec.Command("go", append([]string{"list", "-deps", fields}, packages...)...)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	type listed struct {
		Dir, Root string
		Standard  bool
		Module    *struct {
			Path, Version, Dir, GoVersion string
			Main                          bool
			Replace                       *struct{ Path, Version string }
		}
	}
	goVersion, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	found := map[string]*module{}
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p listed
		if err := decoder.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		path, version, root := "std", strings.TrimPrefix(strings.TrimSpace(string(goVersion)), "go"), p.Root
		switch {
		case p.Standard:
		case p.Module == nil || p.Module.Main:
			continue
		case p.Module.Replace != nil:
			path, version, root = p.Module.Replace.Path, p.Module.Replace.Version, p.Module.Dir
		default:
			path, version, root = p.Module.Path, p.Module.Version, p.Module.Dir
		}
		m := found[path]
		if m == nil {
			m = &module{Path: path, Version: version}
			found[path] = m
		}
		if err := m.collect(root, p.Dir); err != nil {
			return nil, err
		}
	}
	modules := make([]*module, 0, len(found))
	for _, m := range found {
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b *module) int { return strings.Compare(a.Path, b.Path) })
	return modules, nil
}

// collect reads the licence files from a package's directory up to the root of its module:
// what was copied into a module from elsewhere has its own licence in its own directory.
func (m *module) collect(root, dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("licence of %s: %w", m.Path, err)
		}
		for _, entry := range entries {
			if !entry.Type().IsRegular() || !namesLicence(entry.Name()) {
				continue
			}
			name, err := filepath.Rel(root, filepath.Join(dir, entry.Name()))
			if err != nil {
				return fmt.Errorf("licence of %s: %w", m.Path, err)
			}
			if slices.ContainsFunc(m.texts, func(t text) bool { return t.file == name }) {
				continue
			}
			body, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				return fmt.Errorf("licence of %s: %w", m.Path, err)
			}
			m.texts = append(m.texts, text{name, string(body), recognise(string(body))})
		}
		if dir == root || len(dir) <= len(root) {
			slices.SortFunc(m.texts, func(a, b text) int { return strings.Compare(a.file, b.file) })
			return nil
		}
	}
}

// allTexts is what the licences want to be handed on with a program.
func allTexts(modules []*module) string {
	var b strings.Builder
	b.WriteString("slurmk8s contains these Go modules, under their licences.\n")
	for _, m := range modules {
		for _, t := range m.texts {
			fmt.Fprintf(&b, "\n%s\n%s %s: %s\n\n%s\n", strings.Repeat("=", 72), m.Path, m.Version, t.file, strings.TrimSpace(t.body))
		}
	}
	return b.String()
}
