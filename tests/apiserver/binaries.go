package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
)

// DefaultKubernetesVersion is what tests/kubernetes/build.sh builds unless KUBERNETES_VERSION
// says otherwise.
const DefaultKubernetesVersion = "v1.34.4"

// binaries are the two programs that make up a Kubernetes API.
type binaries struct {
	etcd          string
	kubeAPIServer string
}

// findBinaries looks where tests/kubernetes/build.sh puts what it builds. An empty version
// means KUBERNETES_VERSION, or the default.
func findBinaries(version string) (binaries, error) {
	if version == "" {
		version = os.Getenv("KUBERNETES_VERSION")
	}
	if version == "" {
		version = DefaultKubernetesVersion
	}
	cache, err := cacheFolder()
	if err != nil {
		return binaries{}, err
	}
	folder := filepath.Join(cache, "kubernetes", version, "bin")
	found := binaries{etcd: filepath.Join(folder, "etcd"), kubeAPIServer: filepath.Join(folder, "kube-apiserver")}
	for _, path := range []string{found.etcd, found.kubeAPIServer} {
		if name := filepath.Base(path); !executable(path) {
			return binaries{}, fmt.Errorf("no %s at %s: run KUBERNETES_VERSION=%s tests/kubernetes/build.sh %s", name, path, version, name)
		}
	}
	return found, nil
}

// cacheFolder follows the rule of build.sh.
func cacheFolder() (string, error) {
	if folder := os.Getenv("SLURMK8S_CACHE"); folder != "" {
		return folder, nil
	}
	if folder := os.Getenv("XDG_CACHE_HOME"); folder != "" {
		return filepath.Join(folder, "slurmk8s"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("cache folder of built binaries: %w: set SLURMK8S_CACHE", err)
	}
	return filepath.Join(home, ".cache", "slurmk8s"), nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
