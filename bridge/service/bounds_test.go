package service

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/job"
)

// A label is the key to a controller: what means something to one is not the user's,
// however it is written.
func TestLabelsThatPretendToBeOthers(t *testing.T) {
	for _, key := range []string{
		"kubernetes.io/x", "k8s.io/x", "app.kubernetes.io/managed-by", "a.b.k8s.io/x", "slurmk8s.io/uid", "x.slurmk8s.io/y",
		"Kubernetes.io/x", "KUBERNETES.IO/x", "SlurmK8s.io/job-id", "kubernetes.io./x", ".kubernetes.io/x", "kubernetes..io/x",
		"kubernetes.io//x", "kubernetes.io/x/y", "/x", "kubernetes.io/", "kubernetes.io/ x", "kubernetes.io\\/x", "kubernetes。io/x",
		"kubernetеs.io/x", // a Cyrillic e
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a/x", strings.Repeat("a", 64) + ".io/x",
	} {
		_, err := Parse("name=a,port=1,label="+key+"=v", nil)
		var wrong *job.Refused
		require.ErrorAs(t, err, &wrong, key)
		assert.Less(t, len(err.Error()), 500, key)
	}
	for _, key := range []string{"mykubernetes.io/x", "kubernetes.io.example.org/x", "kubernetes", strings.Repeat("a", 63)} {
		_, err := Parse("name=a,port=1,label="+key+"=v", nil)
		require.NoError(t, err, key)
	}
}

func TestNamesAndValuesAtKubernetesBounds(t *testing.T) {
	long := strings.Repeat("a", 63)
	for text, valid := range map[string]bool{
		"name=" + long + ",port=1": true, "name=" + long + "a,port=1": false,
		"name=a,port=1,label=k=" + long: true, "name=a,port=1,label=k=" + long + "a": false,
		"name=a,port=1,ns=" + long: true, "name=a,port=1,ns=" + long + "a": false,
		"name=a.b,port=1": false, "name=-a,port=1": false, "name=a_b,port=1": false, "name=À,port=1": false, "name=1,port=1": false,
		"name=ａ,port=1": false, "name=jupyter\u200b,port=1": false, // full width, zero width
	} {
		_, err := Parse(text, nil)
		assert.Equal(t, valid, err == nil, "%q: %v", text, err)
	}
}

// What a user writes is bounded before anything is made of it.
func TestABombOfPortsOrLabelsIsRefused(t *testing.T) {
	var ports, labels strings.Builder
	for i := range 33 {
		fmt.Fprintf(&ports, ",port=p%d:%d", i, i+1)
		fmt.Fprintf(&labels, ",label=l%d=v", i)
	}
	million := strings.Repeat(",port=1", 1e6)
	for text, says := range map[string]string{
		"name=a" + ports.String():         "more than 32 ports",
		"name=a,port=1" + labels.String(): "more than 16 labels",
		"name=a" + million:                "longer than 8 KiB",
	} {
		_, err := Parse(text, nil)
		require.ErrorContains(t, err, says, "%.60s", text)
		assert.Less(t, len(err.Error()), 500)
	}
}

// Text of a shell, of YAML or of JSON is no text of ours: it is refused, or kept as it is.
func TestTextOfOtherLanguagesIsNotInterpreted(t *testing.T) {
	for _, value := range []string{"$(id)", "`id`", "${HOME}", "a;b", "a|b", `"`, `'`, `{"a":1}`, "a: b", "!!python/object", "&a", "*a", "%s", "%n", "\\n"} {
		for _, field := range []string{"name=%s,port=1", "name=a,port=%s", "name=a,port=1,label=k=%s", "name=a,port=1,ns=%s", "name=a,port=1,type=internal,app=%s"} {
			_, err := Parse(fmt.Sprintf(field, value), nil)
			assert.Error(t, err, "%s in %s", value, field)
		}
		if strings.Contains(value, ";") {
			continue // ends the service
		}
		specs, err := Parse("name=a,port=1,ready=file:/tmp/"+value, nil)
		if err == nil {
			assert.Equal(t, "/tmp/"+value, specs[0].Ready.Path)
		}
	}
}
