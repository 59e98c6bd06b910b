package slurmconf

import (
	"strings"
)

// Values are the settings of a file in the syntax of slurm.conf, by key in lower
// case. An error (one line) says that the file could not be read as a whole.
func Values(path string) (map[string]string, error) {
	values, _, err := readSlurmFile(path)
	return values, err
}

// Several returns all values of a key that may be given several times, in order.
func Several(slurmConf, key string) []string {
	p := newSlurmFile(slurmConf)
	p.read(slurmConf, 0)
	return p.all[strings.ToLower(key)]
}

// Controllers are the hosts of slurmctld, its backups included, without addresses.
func Controllers(slurmConf string) []string {
	p := newSlurmFile(slurmConf)
	p.read(slurmConf, 0)
	hosts := append(p.all["slurmctldhost"], p.values["controlmachine"], p.values["backupcontroller"]) // the latter two before 18.08
	var names []string
	for _, host := range hosts {
		if name, _, _ := strings.Cut(host, "("); name != "" { // HOST(ADDRESS)
			names = append(names, name)
		}
	}
	return names
}
