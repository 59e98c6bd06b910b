package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// kubelets are the processes that are a kubelet or have one in them: k3s and MicroK8s.
var kubelets = []string{"kubelet", "kubelite", "k3s-server", "k3s-agent"}

// kubeletPorts are where a kubelet answers: its health check, and its API.
var kubeletPorts = []string{"127.0.0.1:10248", "127.0.0.1:10250"}

// KubeletHere tells by what a kubelet on this host shows itself, "" if by nothing. A host
// whose kubeconfig is in an unknown place is a Kubernetes node all the same. Any user can
// imitate these signs: use the answer for a warning.
func KubeletHere() string { return kubeletHere("/proc", kubeletPorts) }

func kubeletHere(proc string, ports []string) string {
	// A container has processes on its host that are nodes of their own (kind).
	here, _ := os.Readlink(filepath.Join(proc, "self/ns/net"))
	names, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/comm"))
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || !slices.Contains(kubelets, strings.TrimSpace(string(comm))) {
			continue
		}
		dir := filepath.Dir(name)
		if there, err := os.Readlink(filepath.Join(dir, "ns/net")); err == nil && there == here {
			return fmt.Sprintf("process %s (%s)", filepath.Base(dir), strings.TrimSpace(string(comm)))
		}
	}
	for _, address := range ports {
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			conn.Close()
			return "port " + address
		}
	}
	return ""
}
