package setup

import (
	"path/filepath"
	"regexp"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/workflow"
)

type bridgeJob = workflow.Job

func matches(text, pattern string) []string {
	return regexp.MustCompile(pattern).FindAllString(text, -1)
}

func replaceAll(text, old, new string) string { return strings.ReplaceAll(text, old, new) }

func parent(path string) string { return filepath.Dir(path) }
