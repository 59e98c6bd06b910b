package slurmconf

import (
	"path/filepath"
	"strings"
)

// Values are the settings of a file in the syntax of slurm.conf, by key in lower
// case. An error (one line) says that the file could not be read as a whole.
func Values(path string) (map[string]string, error) {
	values, _, err := readSlurmFile(path)
	return values, err
}

// Controllers are the hosts of slurmctld, its backups included, without addresses.
func Controllers(slurmConf string) []string {
	p := &slurmFile{dir: filepath.Dir(slurmConf), values: map[string]string{}, bytes: maxSlurmFileBytes}
	p.read(slurmConf, 0)
	hosts := append(p.hosts, p.values["controlmachine"], p.values["backupcontroller"]) // the latter two before 18.08
	var names []string
	for _, host := range hosts {
		if name, _, _ := strings.Cut(host, "("); name != "" { // HOST(ADDRESS)
			names = append(names, name)
		}
	}
	return names
}
