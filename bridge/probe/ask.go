package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// timeout bounds one question.
const timeout = 2 * time.Second

// askTCP wants a connection.
func askTCP(ctx context.Context, target netip.AddrPort) error {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", target.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// askHTTP wants an answer below 400 to a GET by http or https. It follows no redirect,
// which would lead where the user wants. As the kubelet does, it takes any certificate: a
// job's is seldom signed by anybody, and the question tells no secret.
func askHTTP(ctx context.Context, scheme string, target netip.AddrPort, path string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+target.String()+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "slurmk8s-probe")
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return nil
}
