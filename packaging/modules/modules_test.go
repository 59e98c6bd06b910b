package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	mit  = "Permission is hereby granted, free of charge,\n to any person obtaining a copy of this software"
	bsd3 = "Redistribution and use in source and binary forms, with or without ... Neither the name of X"
	gpl  = "GNU GENERAL PUBLIC LICENSE\nVersion 3"
)

func TestALicenceThatIsNotAllowedOrNotKnownIsAnError(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string // of the error; "": none
	}{
		{"one that is allowed", map[string]string{"LICENSE": mit}, ""},
		{"another name of the file", map[string]string{"COPYING.md": bsd3}, ""},
		{"two that are allowed, one file", map[string]string{"LICENSE": mit + bsd3}, ""},
		{"a notice beside it", map[string]string{"LICENSE": mit, "NOTICE": "Copyright Jane Doe"}, ""},
		{"none", map[string]string{"README": mit}, "example.org/m v1.2.3: no licence that is known"},
		{"a text that nobody knows", map[string]string{"LICENSE": "do as you please"}, "no licence that is known"},
		{"an unknown text beside a known one", map[string]string{"LICENSE": mit, "LICENSE.extra": "give me money"}, "LICENSE.extra is no licence that is known"},
		{"one that is not allowed", map[string]string{"LICENSE": gpl}, "LICENSE: licence GPL is not allowed"},
		{"one that is not allowed beside one that is", map[string]string{"LICENSE": mit, "COPYING": gpl}, "COPYING: licence GPL is not allowed"},
		{"copied code with its own", map[string]string{"LICENSE": mit, "pkg/LICENSE": gpl}, "pkg/LICENSE: licence GPL is not allowed"},
		{"code that is not linked in", map[string]string{"LICENSE": mit, "other/LICENSE": gpl}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range []string{"pkg", "other"} {
				require.NoError(t, os.Mkdir(filepath.Join(root, dir), 0o755))
			}
			for file, body := range tt.files {
				require.NoError(t, os.WriteFile(filepath.Join(root, file), []byte(body), 0o644))
			}
			m := &module{Path: "example.org/m", Version: "v1.2.3"}
			require.NoError(t, m.collect(root, filepath.Join(root, "pkg")))
			if err := m.judge(); tt.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, tt.want)
			}
		})
	}
}

func TestWhatIsLinkedIntoTheProgramIsListed(t *testing.T) {
	modules, err := linked([]string{"slurmk8s.io/slurmk8s/bridge/cmd/slurmk8s"})
	require.NoError(t, err)
	document, err := cycloneDX("9.8.7", modules)
	require.NoError(t, err)
	var read bom
	require.NoError(t, json.Unmarshal(document, &read))
	assert.Equal(t, "9.8.7", read.Metadata.Component.Version)
	found := map[string]component{}
	for _, c := range read.Components {
		found[c.Name] = c
	}
	for _, name := range []string{"std", "k8s.io/client-go", "github.com/sirupsen/logrus"} {
		require.Contains(t, found, name)
		assert.NotEmpty(t, found[name].Version)
		assert.NotEmpty(t, found[name].Licences, name)
	}
	assert.Equal(t, "pkg:golang/github.com/sirupsen/logrus@"+found["github.com/sirupsen/logrus"].Version, found["github.com/sirupsen/logrus"].Purl)
	assert.NotContains(t, found, "github.com/stretchr/testify", "tests are not linked in")
	assert.NotContains(t, found, "slurmk8s.io/slurmk8s")
}
