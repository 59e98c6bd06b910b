package probe

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/service"
)

// A service of two ports: web, which nothing listens on, and admin, which an HTTP server has.
func twoPorts(t *testing.T, admin string) []service.Port {
	t.Helper()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	web := netip.MustParseAddrPort(closed.Addr().String()).Port()
	require.NoError(t, closed.Close())
	return []service.Port{
		{Name: "web", Port: 80, Target: web},
		{Name: "admin", Port: 81, Target: netip.MustParseAddrPort(admin).Port()},
		{Name: "udp", Port: 53, Target: 53, UDP: true},
	}
}

func TestProbesThePortThatTheUserNames(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	plain, tls := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer tls.Close()
	for _, tt := range []struct {
		name  string
		admin net.Listener
		ready service.Probe
		fails string
	}{
		{"every TCP port", plain.Listener, service.Probe{Kind: service.ReadyTCP}, "nothing listens on port "},
		{"tcp of one port by name", plain.Listener, service.Probe{Kind: service.ReadyTCP, Port: "admin"}, ""},
		{"tcp of one port by number", plain.Listener, service.Probe{Kind: service.ReadyTCP, Port: "80"}, "nothing listens on port "},
		{"http of the first port", plain.Listener, service.Probe{Kind: service.ReadyHTTP, Path: "/ok"}, "nothing listens on port "},
		{"http of another port", plain.Listener, service.Probe{Kind: service.ReadyHTTP, Port: "81", Path: "/ok"}, ""},
		{"http with a status of failure", plain.Listener, service.Probe{Kind: service.ReadyHTTP, Port: "admin", Path: "/no"}, "503"},
		{"https with a certificate that nobody signed", tls.Listener, service.Probe{Kind: service.ReadyHTTPS, Port: "admin", Path: "/ok"}, ""},
		{"https with a status of failure", tls.Listener, service.Probe{Kind: service.ReadyHTTPS, Port: "admin", Path: "/no"}, "503"},
		{"https where only http is spoken", plain.Listener, service.Probe{Kind: service.ReadyHTTPS, Port: "admin", Path: "/ok"}, "HTTP response to HTTPS client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &Prober{Address: netip.MustParseAddr("127.0.0.1")}
			err := p.probe(t.Context(), service.Spec{Ports: twoPorts(t, tt.admin.Addr().String()), Ready: tt.ready})
			if tt.fails == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, tt.fails)
		})
	}
}
