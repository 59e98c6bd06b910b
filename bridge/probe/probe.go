// Package probe asks once whether a service answers.
package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Timeout bounds one question.
const Timeout = 2 * time.Second

// TCP wants a connection.
func TCP(ctx context.Context, target netip.AddrPort) error {
	d := net.Dialer{Timeout: Timeout}
	conn, err := d.DialContext(ctx, "tcp", target.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// HTTP wants an answer below 400 to a GET. It follows no redirect, which would
// lead where the user wants.
func HTTP(ctx context.Context, target netip.AddrPort, path string) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target.String()+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "slurmk8s-probe")
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
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

// File wants a file that can be opened. Call it as the user whose file it is.
func File(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
