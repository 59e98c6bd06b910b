package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Server is what an API server says about itself.
type Server struct {
	Version string    // "v1.34.4"
	Clock   time.Time // its own, to the second
}

// Look asks the API server for its version and time, once. An error is about the
// connection, its certificate, or a credential that it rejects.
func (c *Client) Look(ctx context.Context) (Server, error) {
	ctx, cancel := context.WithTimeout(ctx, c.requestTimeout)
	defer cancel()
	target := c.rest.Get().AbsPath("/version").URL()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return Server{}, err
	}
	answer, err := c.rest.Client.Do(request)
	if err != nil {
		return Server{}, fmt.Errorf("%s: %s", target.Host, Reason(err))
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return Server{}, errors.New("the API server rejects the credential: it may be expired or revoked (HTTP 401)")
	default:
		return Server{}, fmt.Errorf("%s answers %s", target.Host, answer.Status)
	}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&version); err != nil {
		return Server{}, fmt.Errorf("%s: no answer of a Kubernetes API server: %w", target.Host, err)
	}
	clock, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		clock = time.Time{}
	}
	return Server{Version: version.GitVersion, Clock: clock}, nil
}
