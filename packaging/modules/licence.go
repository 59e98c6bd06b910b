package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// allowed may be linked into a program that is handed on in any way; their texts must go
// with it.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// phrases are what no copy of a licence lacks, in lower case and with single spaces. What
// is not allowed is here too, where it could be overlooked beside something that is.
var phrases = []struct{ id, phrase string }{
	{"Apache-2.0", "apache license version 2.0"},
	{"Apache-2.0", "licensed under the apache license, version 2.0"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"ISC", "permission to use, copy, modify, and distribute this software for any purpose"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"MPL-2.0", "mozilla public license"},
	{"GPL", "gnu general public license"},
	{"AGPL", "gnu affero general public license"},
	{"LGPL", "gnu lesser general public license"},
	{"EPL", "eclipse public license"},
	{"CDDL", "common development and distribution license"},
	{"BUSL", "business source license"},
	{"SSPL", "server side public license"},
	{"CC", "creative commons"},
}

var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|unlicen[cs]e)([.-].*)?$`)

func namesLicence(file string) bool {
	return licenceName.MatchString(file) && !strings.HasSuffix(file, ".go")
}

// recognise names all licences that a text holds, as SPDX does; none if it knows none.
func recognise(body string) []string {
	flat := strings.Join(strings.Fields(strings.ToLower(body)), " ")
	var ids []string
	for _, p := range phrases {
		if strings.Contains(flat, p.phrase) && !slices.Contains(ids, p.id) {
			ids = append(ids, p.id)
		}
	}
	if strings.Contains(flat, "redistribution and use in source and binary forms") {
		if strings.Contains(flat, "neither the name") {
			ids = append(ids, "BSD-3-Clause")
		} else {
			ids = append(ids, "BSD-2-Clause")
		}
	}
	slices.Sort(ids)
	return ids
}

// licences are those of all files of a module.
func (m *module) licences() []string {
	var ids []string
	for _, t := range m.texts {
		ids = append(ids, t.ids...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// judge returns an error for a module that may not be handed on with slurmk8s, or of which
// nobody could tell.
func (m *module) judge() error {
	const act = "use another module, or let a person judge it and extend packaging/modules/licence.go"
	ids := m.licences()
	if len(ids) == 0 {
		return fmt.Errorf("%s %s: no licence that is known: %s", m.Path, m.Version, act)
	}
	for _, t := range m.texts {
		// A NOTICE has names of authors, not a licence.
		if len(t.ids) == 0 && !strings.HasPrefix(strings.ToLower(t.file), "notice") {
			return fmt.Errorf("%s %s: %s is no licence that is known: %s", m.Path, m.Version, t.file, act)
		}
		for _, id := range t.ids {
			if !slices.Contains(allowed, id) {
				return fmt.Errorf("%s %s: %s: licence %s is not allowed: %s", m.Path, m.Version, t.file, id, act)
			}
		}
	}
	return nil
}
