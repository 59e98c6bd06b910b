package dwssim

import (
	"embed"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// DefaultVersions are what DWS serves since v0.1.15; the last one is stored.
var DefaultVersions = []string{"v1alpha6", "v1alpha7"}

// unserved are versions that the definitions of DWS still list.
var unserved = []string{"v1alpha4", "v1alpha5"}

// The schemas are the same in all versions: nothing that a workload manager reads or writes
// changed between them, so that a conversion strategy of None is right.
var (
	//go:embed crds/workflows.yaml
	workflowsCRD []byte
	//go:embed crds/computes.yaml
	computesCRD []byte
	//go:embed crds
	crdFiles embed.FS
)

// definition is the template of one of the kinds that NNF needs.
func (k kind) definition() ([]byte, error) { return crdFiles.ReadFile("crds/" + k.plural + ".yaml") }

// customResourceDefinition makes one of the definitions for the versions to serve. alsoStored
// are versions that objects were stored in before: the API server wants them listed, though not
// served.
func customResourceDefinition(text []byte, served, alsoStored []string) (*unstructured.Unstructured, error) {
	crd, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	template, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil || len(template) != 1 {
		return nil, fmt.Errorf("definition of %s: it must have exactly one version, the template (%v)", crd.GetName(), err)
	}
	var versions []any
	for i, version := range slices.Concat(unserved, alsoStored) {
		if !slices.Contains(served, version) && (i < len(unserved) || !slices.Contains(unserved, version)) {
			versions = append(versions, versionOf(template[0], version, false, false))
		}
	}
	for i, version := range served {
		versions = append(versions, versionOf(template[0], version, true, i == len(served)-1))
	}
	if err := unstructured.SetNestedSlice(crd.Object, versions, "spec", "versions"); err != nil {
		return nil, fmt.Errorf("definition of %s: %w", crd.GetName(), err)
	}
	return crd, nil
}

func versionOf(template any, name string, served, storage bool) map[string]any {
	version := map[string]any{}
	for key, value := range template.(map[string]any) {
		version[key] = value
	}
	version["name"], version["served"], version["storage"] = name, served, storage
	return version
}

// parseYAML reads one object; a duplicate key is an error.
func parseYAML(text []byte) (*unstructured.Unstructured, error) {
	encoded, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("embedded manifest: %w", err)
	}
	// Through unstructured's own decoder: integers stay integers.
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(encoded); err != nil {
		return nil, fmt.Errorf("embedded manifest: %w", err)
	}
	return object, nil
}

var versionName = regexp.MustCompile(`^v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?$`)

// checkVersions refuses what no API server would serve.
func checkVersions(versions []string) error {
	if len(versions) == 0 {
		return errors.New("no version to serve")
	}
	for i, version := range versions {
		if !versionName.MatchString(version) {
			return fmt.Errorf("version %q: it is not like v1alpha7", version)
		}
		if slices.Contains(versions[:i], version) {
			return fmt.Errorf("version %s is given twice", version)
		}
	}
	return nil
}
