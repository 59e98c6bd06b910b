package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/service"
)

const alice, bob = 1001, 1002

// listener is a socket that a user has: network "tcp4", "tcp6" or "udp4" at an address.
type listener struct {
	uid              int
	network, address string
	shared           bool // SO_REUSEADDR: of UDP several users may then have a port
}

// open makes the socket as its user, at a port.
func (l listener) open(t *testing.T, port uint16) func() {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be other users")
	}
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		_ = conn.Control(func(fd uintptr) {
			if l.shared {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}
		})
		return err
	}}
	at := net.JoinHostPort(l.address, fmt.Sprint(port))
	var close func() error
	var err error
	runtime.LockOSThread() // the owner of a socket is the thread's user when it is made
	defer runtime.UnlockOSThread()
	require.NoError(t, unix.Setfsuid(l.uid))
	if strings.HasPrefix(l.network, "udp") {
		var conn net.PacketConn
		if conn, err = config.ListenPacket(t.Context(), l.network, at); err == nil {
			close = conn.Close
		}
	} else {
		var ln net.Listener
		if ln, err = config.Listen(t.Context(), l.network, at); err == nil {
			close = ln.Close
		}
	}
	require.NoError(t, unix.Setfsuid(0))
	require.NoError(t, err)
	t.Cleanup(func() { _ = close() })
	return func() { require.NoError(t, close()) }
}

// freePort is one that nothing has on any address.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// dual is an address of "tcp" for which Go makes one socket of both families.
const dual = "::"

func TestAServiceIsReadyWhenTheJobAnswersAndNotSomebodyElse(t *testing.T) {
	const here = "127.0.0.2"
	for _, tt := range []struct {
		name string
		have []listener
		udp  bool
		want string // %d is the port
	}{
		{"the job on the node's address", []listener{{alice, "tcp4", here, false}}, false, ""},
		{"the job on every address", []listener{{alice, "tcp4", "0.0.0.0", false}}, false, ""},
		{"the job on every address of both families", []listener{{alice, "tcp", dual, false}}, false, ""},
		{"the job, and another user has IPv6 alone", []listener{{alice, "tcp4", "0.0.0.0", false}, {bob, "tcp6", "::", false}}, false, ""},
		{"the job, and another user has another address", []listener{{alice, "tcp4", here, false}, {bob, "tcp4", "127.0.0.3", false}}, false, ""},
		{"another user on the node's address", []listener{{bob, "tcp4", here, false}}, false, "port %d of this node is taken by another user"},
		{"another user on every address", []listener{{bob, "tcp4", "0.0.0.0", false}}, false, "port %d of this node is taken by another user"},
		{"another user on every address of both families", []listener{{bob, "tcp", dual, false}}, false, "port %d of this node is taken by another user"},
		{"root is another user", []listener{{0, "tcp4", here, false}}, false, "port %d of this node is taken by another user"},
		{"nobody", nil, false, "nothing listens on port %d"},
		{"the job on localhost", []listener{{alice, "tcp4", "127.0.0.1", false}}, false,
			"port %d listens on localhost only (127.0.0.1), which pods cannot reach: let the server listen on 0.0.0.0"},
		{"the job on localhost of both families", []listener{{alice, "tcp4", "127.0.0.1", false}, {alice, "tcp6", "::1", false}}, false,
			"port %d listens on localhost only (127.0.0.1, ::1), which pods cannot reach: let the server listen on 0.0.0.0"},
		{"another user on localhost", []listener{{bob, "tcp4", "127.0.0.1", false}}, false,
			"nothing of the job listens on port %d, and another user has it on 127.0.0.1"},
		{"UDP of the job", []listener{{alice, "udp4", "0.0.0.0", false}}, true, ""},
		{"UDP of another user", []listener{{bob, "udp4", "0.0.0.0", false}}, true, "port %d of this node is taken by another user"},
		{"UDP of the job and of another user", []listener{{alice, "udp4", "0.0.0.0", true}, {bob, "udp4", "0.0.0.0", true}}, true,
			"port %d of this node is taken by another user"},
		{"UDP, and another user has the port of TCP", []listener{{bob, "tcp4", "0.0.0.0", false}}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port := freePort(t)
			for _, l := range tt.have {
				l.open(t, port)
			}
			spec := service.Spec{Ports: []service.Port{{Port: 80, Target: port, UDP: tt.udp}}, Ready: service.Probe{Kind: service.ReadyTCP}}
			p := &Prober{Address: netip.MustParseAddr(here), UID: alice}
			err := p.probe(t.Context(), spec)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, fmt.Sprintf(tt.want, port))
		})
	}
}

func TestOfIPv6TooTheJobMustAnswer(t *testing.T) {
	for uid, want := range map[int]string{alice: "", bob: "taken by another user"} {
		port := freePort(t)
		listener{uid, "tcp6", "::1", false}.open(t, port)
		p := &Prober{Address: netip.IPv6Loopback(), UID: alice}
		err := p.probe(t.Context(), service.Spec{Ports: []service.Port{{Port: 80, Target: port}}, Ready: service.Probe{Kind: service.ReadyTCP}})
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

// A server that listens on 0.0.0.0 is no reason to publish the node's IPv6 address.
func TestASecondAddressIsPublishedOnlyIfTheJobListensThere(t *testing.T) {
	for name, tt := range map[string]struct {
		have []listener
		want string // "": published
	}{
		"IPv4 alone":                       {[]listener{{alice, "tcp4", "0.0.0.0", false}}, "listens on 0.0.0.0 only, and pods use ::1"},
		"both families":                    {[]listener{{alice, "tcp", dual, false}}, ""},
		"IPv4, and another user has IPv6":  {[]listener{{alice, "tcp4", "0.0.0.0", false}, {bob, "tcp6", "::1", false}}, "taken by another user"},
		"a socket of its own for IPv6":     {[]listener{{alice, "tcp4", "127.0.0.2", false}, {alice, "tcp6", "::1", false}}, ""},
		"nothing, which ready=none allows": {nil, "nothing listens on port"},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			for _, l := range tt.have {
				l.open(t, port)
			}
			for _, ready := range []service.Probe{{Kind: service.ReadyTCP}, {Kind: service.ReadyNone}, {Kind: service.ReadyFile, Path: "/x"}} {
				p := &Prober{Address: netip.IPv6Loopback(), Second: true, UID: alice}
				err := p.probe(t.Context(), service.Spec{Ports: []service.Port{{Port: 80, Target: port}}, Ready: ready})
				if tt.want == "" {
					assert.NoError(t, err, ready)
				} else {
					assert.ErrorContains(t, err, tt.want, ready)
				}
			}
		})
	}
}

// Whatever the user asks for as a probe, and also for a port that no probe asks.
func TestAPortOfAnotherUserIsNeverPublished(t *testing.T) {
	mine, foreign := freePort(t), freePort(t)
	listener{alice, "tcp4", "0.0.0.0", false}.open(t, mine)
	listener{bob, "tcp4", "0.0.0.0", false}.open(t, foreign)
	p := &Prober{Address: netip.MustParseAddr("127.0.0.2"), UID: alice, File: func(context.Context, string) error { return nil }}
	for _, ready := range []service.Probe{{Kind: service.ReadyNone}, {Kind: service.ReadyFile, Path: "/x"}, {Kind: service.ReadyTCP, Port: "mine"}} {
		spec := service.Spec{Ports: []service.Port{{Name: "mine", Port: 80, Target: mine}, {Name: "foreign", Port: 81, Target: foreign}}, Ready: ready}
		var taken *TakenError
		require.ErrorAs(t, p.probe(t.Context(), spec), &taken, ready.String())
		assert.Equal(t, foreign, taken.Port)
		spec.Ports = spec.Ports[:1]
		require.NoError(t, p.probe(t.Context(), spec), ready.String())
		spec.Ports[0].Target, spec.Expose = foreign, "internal"
		if ready.Kind == service.ReadyNone {
			require.NoError(t, p.probe(t.Context(), spec), "the ports of pods are not the node's")
		}
	}
}

// The job's server ends, and another user gets its port before anybody asks.
func TestAServiceWhosePortAnotherUserGetsIsClosedAtOnce(t *testing.T) {
	port := freePort(t)
	closeMine := listener{alice, "tcp4", "0.0.0.0", false}.open(t, port)
	log := logrus.New()
	log.SetOutput(t.Output())
	p := &Prober{Address: netip.MustParseAddr("127.0.0.2"), UID: alice, Timeout: time.Hour, Interval: time.Millisecond, Log: logrus.NewEntry(log)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan Answer)
	go p.Watch(ctx, service.Spec{Ports: []service.Port{{Port: 80, Target: port}}, Ready: service.Probe{Kind: service.ReadyNone}}, func(a Answer) {
		select {
		case answers <- a:
		case <-ctx.Done():
		}
	})
	assert.Equal(t, Answer{Ready: true}, <-answers)
	closeMine()
	closeForeign := listener{bob, "tcp4", "0.0.0.0", false}.open(t, port)
	assert.Equal(t, Answer{}, <-answers, "closed")
	assert.Equal(t, Answer{Late: &TakenError{port}}, <-answers, "and the user is told why")
	closeForeign()
	assert.Equal(t, Answer{Ready: true}, <-answers)
}
