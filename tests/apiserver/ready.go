package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// errPortTaken is the one failure of a start that another start fixes.
var errPortTaken = errors.New("a port was taken by another program")

// waitReady returns when the API serves requests as a whole: RBAC's roles are there, and so is
// the default namespace.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	client, err := rest.HTTPClientFor(s.Config())
	if err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
		if err := s.waitFor(ctx, client, path); err != nil {
			return err
		}
	}
	return nil
}

// waitFor asks for path until the answer is 200. There is nothing to watch before the API is
// up, so this one place polls.
func (s *Server) waitFor(ctx context.Context, client *http.Client, path string) error {
	const interval = 20 * time.Millisecond
	var last error
	for {
		if last = get(ctx, client, s.URL+path); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver does not become ready: %w; the end of its log:\n%s", last, s.api.logTail())
		case <-s.etcd.exited:
			return earlyEnd(s.etcd)
		case <-s.api.exited:
			return earlyEnd(s.api)
		case <-time.After(interval):
		}
	}
}

func earlyEnd(p *process) error {
	if strings.Contains(p.logTail(), "address already in use") {
		return fmt.Errorf("%w: %w", errPortTaken, p.failure())
	}
	return p.failure()
}

func get(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}
