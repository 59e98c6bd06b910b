package slurmconf

import (
	"fmt"
	"path/filepath"
	"strings"
)

// SpankPlugin is a line of plugstack.conf.
type SpankPlugin struct {
	File     string // that the line is in
	Line     int
	Required bool
	Path     string
	Args     []string
}

// String is the line, without comment.
func (p SpankPlugin) String() string {
	kind := "optional"
	if p.Required {
		kind = "required"
	}
	return strings.Join(append([]string{kind, p.Path}, p.Args...), " ")
}

// PlugstackPath is where Slurm looks for plugstack.conf: PlugStackConfig of
// slurm.conf, else the directory of slurm.conf.
func PlugstackPath(slurmConf string) string {
	values, _ := Values(slurmConf)
	if path := values["plugstackconfig"]; path != "" {
		return path
	}
	return besideSlurmConf(slurmConf, "plugstack.conf")
}

// ReadPlugstack reads a plugstack.conf and what it includes (spank(8)). What Slurm
// would not understand is ignored; an error (one line) says that a file could not
// be read.
func ReadPlugstack(path string) ([]SpankPlugin, error) {
	return readPlugstack(path, 0)
}

func readPlugstack(path string, depth int) ([]SpankPlugin, error) {
	if depth > maxIncludeDepth {
		return nil, fmt.Errorf("%s: files include each other", oneLine(path))
	}
	data, err := readRegular(path, maxSlurmFileBytes)
	if err != nil {
		return nil, &slurmFileError{path: path, err: err}
	}
	var all []SpankPlugin
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		text, _, _ := strings.Cut(line, "#")
		words := strings.Fields(text)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "required", "optional":
			all = append(all, SpankPlugin{path, number, words[0] == "required", words[1], words[2:]})
		case "include":
			pattern := words[1]
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(path), pattern)
			}
			files, _ := filepath.Glob(pattern) // in order; a pattern that matches nothing is no error to Slurm
			for _, file := range files {
				some, err := readPlugstack(file, depth+1)
				if err != nil {
					return all, err
				}
				all = append(all, some...)
			}
		}
	}
	return all, nil
}
