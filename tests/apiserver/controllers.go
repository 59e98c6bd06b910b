package apiserver

import (
	"fmt"
	"path/filepath"
	"strings"
)

// StartControllers starts a kube-controller-manager with these controllers, such as
// "garbage-collector-controller", once for the server's life. It does not wait for them: what
// they do is waited for by the test.
func (s *Server) StartControllers(names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.controllers != nil {
		return fmt.Errorf("start kube-controller-manager: it was started before")
	}
	path := filepath.Join(filepath.Dir(s.binaries.kubeAPIServer), "kube-controller-manager")
	if !executable(path) {
		return fmt.Errorf("no kube-controller-manager at %s: run KUBERNETES_VERSION=%s tests/kubernetes/build.sh kube-controller-manager",
			path, filepath.Base(filepath.Dir(filepath.Dir(path))))
	}
	s.logf("kube-controller-manager: starting %s", path)
	var err error
	s.controllers, err = startProcess(s.Dir, "kube-controller-manager", path, []string{
		"--kubeconfig=" + s.Kubeconfig(),
		"--controllers=" + strings.Join(names, ","),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	})
	return err
}
