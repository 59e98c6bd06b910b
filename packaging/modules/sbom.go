package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The part of CycloneDX 1.5 that is used (https://cyclonedx.org/docs/1.5/json/). There is
// neither a serial number nor a time: the same sources give the same file.
type bom struct {
	Format      string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type     string    `json:"type"`
	Ref      string    `json:"bom-ref"`
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Purl     string    `json:"purl,omitempty"`
	Licences []licence `json:"licenses,omitempty"`
}

type licence struct {
	Licence struct {
		ID string `json:"id"`
	} `json:"license"`
}

// cycloneDX is the SBOM of slurmk8s: the program and the library are of the same modules.
func cycloneDX(version string, modules []*module) ([]byte, error) {
	document := bom{
		Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		Metadata: metadata{component{Type: "application", Ref: "slurmk8s", Name: "slurmk8s", Version: version}},
	}
	for _, m := range modules {
		// https://github.com/package-url/purl-spec: names of golang are in lower case.
		purl := fmt.Sprintf("pkg:golang/%s@%s", strings.ToLower(m.Path), strings.ReplaceAll(m.Version, "+", "%2B"))
		c := component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, Purl: purl}
		for _, id := range m.licences() {
			var l licence
			l.Licence.ID = id
			c.Licences = append(c.Licences, l)
		}
		document.Components = append(document.Components, c)
	}
	data, err := json.MarshalIndent(document, "", "  ")
	return append(data, '\n'), err
}
