package probe

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/service"
)

// TakenError is a port of this node where a socket of another user receives what is sent
// to the service.
type TakenError struct{ Port uint16 }

func (e *TakenError) Error() string {
	return fmt.Sprintf("port %d of this node is taken by another user", e.Port)
}

// socket is one that takes connections or, of UDP, datagrams from anybody.
type socket struct {
	local netip.Addr
	uid   uint32
}

// receives tells whether the socket gets what is sent to an address of this host.
func (s socket) receives(to netip.Addr) bool {
	return s.local == to || s.local == netip.IPv4Unspecified() && to.Is4() || s.local == netip.IPv6Unspecified()
}

// taken is a *TakenError if somebody else than the user receives what is sent to the port.
func (p *Prober) taken(port service.Port) error {
	receivers, _, err := p.receivers(port)
	if err == nil && slices.ContainsFunc(receivers, p.foreign) {
		err = &TakenError{port.Target}
	}
	return err
}

// listens returns nil if the user, and nobody else, takes connections at the port. The
// error says what is there instead.
func (p *Prober) listens(port service.Port) error {
	receivers, others, err := p.receivers(port)
	switch {
	case err != nil:
		return err
	case slices.ContainsFunc(receivers, p.foreign):
		return &TakenError{port.Target}
	case len(receivers) > 0:
		return nil
	}
	var elsewhere []string
	local := true
	for _, s := range others {
		if !p.foreign(s) {
			elsewhere = append(elsewhere, s.local.String())
			local = local && s.local.IsLoopback()
		}
	}
	slices.Sort(elsewhere)
	where := strings.Join(slices.Compact(elsewhere), ", ")
	switch {
	case where == "" && len(others) > 0:
		return fmt.Errorf("nothing of the job listens on port %d, and another user has it on %s", port.Target, others[0].local)
	case where == "":
		return fmt.Errorf("nothing listens on port %d", port.Target)
	case local:
		return fmt.Errorf("port %d listens on localhost only (%s), which pods cannot reach: let the server listen on 0.0.0.0", port.Target, where)
	}
	return fmt.Errorf("port %d listens on %s only, and pods use %s", port.Target, where, p.Address)
}

func (p *Prober) foreign(s socket) bool { return s.uid != p.UID }

// receivers are the sockets of a port that get what is sent to the published address, and
// the other ones. Where both IPv4 and the IPv6 wildcard are there, the latter does not
// count: two users can have that only if it takes IPv6 alone, which the kernel does not
// list, and IPv4's own sockets come first anyway.
func (p *Prober) receivers(port service.Port) (receivers, others []socket, err error) {
	network := "tcp"
	if port.UDP {
		network = "udp"
	}
	all, err := sockets("/proc/thread-self/net", network, port.Target)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range all {
		if s.receives(p.Address) {
			receivers = append(receivers, s)
		} else {
			others = append(others, s)
		}
	}
	if p.Address.Is4() && slices.ContainsFunc(receivers, func(s socket) bool { return s.local.Is4() }) {
		receivers = slices.DeleteFunc(receivers, func(s socket) bool { return s.local.Is6() })
	}
	return receivers, others, nil
}

// sockets reads those of a port from files of proc(5). Their owners are the users that
// made them, as this process's user namespace knows them.
func sockets(dir, network string, port uint16) ([]socket, error) {
	var found []socket
	for _, name := range []string{network, network + "6"} {
		some, err := socketsIn(dir+"/"+name, port)
		if errors.Is(err, fs.ErrNotExist) && name == network+"6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("find who has port %d: %w", port, err)
		}
		found = append(found, some...)
	}
	return found, nil
}

// The states of a socket in such a file, include/net/tcp_states.h.
const (
	stateOpening = "03"
	stateUnbound = "07" // UDP: without a peer
	stateListen  = "0A"
)

func socketsIn(path string, port uint16) ([]socket, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan() // the headings
	var found []socket
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 {
			continue
		}
		local, state := fields[1], fields[3]
		if state != stateListen && state != stateUnbound {
			if state == stateOpening || strings.Contains(path, "udp") {
				continue
			}
			break // of TCP the listening sockets come first, and a busy node has many others
		}
		address, number, ok := parseLocal(local)
		uid, err := strconv.ParseUint(fields[7], 10, 32)
		if !ok || err != nil {
			return nil, fmt.Errorf("%s: cannot read %q", path, lines.Text())
		}
		if number == port {
			found = append(found, socket{address, uint32(uid)})
		}
	}
	return found, lines.Err()
}

// parseLocal reads "0100007F:1F90": words in the host's byte order, and the port.
func parseLocal(text string) (netip.Addr, uint16, bool) {
	words, portText, _ := strings.Cut(text, ":")
	port, err := strconv.ParseUint(portText, 16, 16)
	if err != nil {
		return netip.Addr{}, 0, false
	}
	var raw []byte
	for ; len(words) >= 8; words = words[8:] {
		word, err := strconv.ParseUint(words[:8], 16, 32)
		if err != nil {
			return netip.Addr{}, 0, false
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(word))
	}
	address, ok := netip.AddrFromSlice(raw)
	return address.Unmap(), uint16(port), ok && words == ""
}
