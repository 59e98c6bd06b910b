// Package address finds the address of this node that pods can reach. It comes from
// Slurm's configuration or the administrator's, never from a user, and is always an
// address of the node.
package address

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// Finder finds the address. The zero value asks this host.
type Finder struct {
	// Interfaces returns the addresses of this host by interface.
	Interfaces func() ([]Interface, error)
	// Lookup resolves a host name.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
}

// Interface is a network interface that is up.
type Interface struct {
	Name      string
	Addresses []netip.Addr
}

// Find returns the address of the node for services.address of slurmk8s.toml. IPv4
// is preferred where there are both.
func (f Finder) Find(ctx context.Context, cfg *slurmconf.Config, node string) (netip.Addr, error) {
	found, err := f.find(ctx, cfg, node)
	if err != nil {
		return netip.Addr{}, err
	}
	return found[0], nil
}

// FindBoth returns Find's address and the first one of the other family, which is not valid
// if there is none: on the same interface, of the same NodeAddr. A subnet has one family.
func (f Finder) FindBoth(ctx context.Context, cfg *slurmconf.Config, node string) (first, second netip.Addr, err error) {
	found, err := f.find(ctx, cfg, node)
	if err != nil {
		return first, second, err
	}
	first = found[0]
	if i := slices.IndexFunc(found, func(a netip.Addr) bool { return a.Is4() != first.Is4() }); i > 0 {
		second = found[i]
	}
	return first, second, nil
}

// find returns all addresses that services.address allows, at least one, the preferred first.
func (f Finder) find(ctx context.Context, cfg *slurmconf.Config, node string) ([]netip.Addr, error) {
	interfaces := f.Interfaces
	if interfaces == nil {
		interfaces = hostInterfaces
	}
	local, err := interfaces()
	if err != nil {
		return nil, fmt.Errorf("addresses of this node: %w", err)
	}
	how := cfg.Services.Address
	if name, ok := strings.CutPrefix(how, slurmconf.AddressInterface); ok {
		return onInterface(local, name)
	}
	if cidr, ok := strings.CutPrefix(how, slurmconf.AddressSubnet); ok {
		return inSubnet(local, cidr)
	}
	host, confErr := slurmconf.NodeAddr(cfg.SlurmConf, node)
	candidates, err := f.resolve(ctx, host)
	if err != nil {
		if confErr != nil {
			err = fmt.Errorf("%w (and %w)", err, confErr)
		}
		return nil, fmt.Errorf("address of node %s: %w", node, err)
	}
	var found []netip.Addr
	for _, candidate := range candidates {
		if Usable(candidate) == nil && has(local, candidate) {
			found = append(found, candidate)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, fmt.Errorf("address of node %s: %s resolves to %s, which pods cannot reach: "+
		"set NodeAddr in slurm.conf, or services.address in slurmk8s.toml to \"interface:NAME\"", node, host, join(candidates))
}

func (f Finder) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{address.Unmap()}, nil
	}
	lookup := f.Lookup
	if lookup == nil {
		lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		}
	}
	found, err := lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	return preferred(found), nil
}

// Usable returns an error for an address that an EndpointSlice must not have: one that
// does not lead to exactly one host, or that means each client itself.
func Usable(a netip.Addr) error {
	switch {
	case !a.IsValid() || a.Zone() != "":
		return fmt.Errorf("%s is not an address", a)
	case a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a.IsInterfaceLocalMulticast():
		return fmt.Errorf("%s is loopback, link-local, multicast or unspecified", a)
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is the broadcast address", a)
	}
	return nil
}

// preferred puts IPv4 first and leaves the order else as it is.
func preferred(addresses []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, a := range addresses {
		if a = a.Unmap(); a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	return append(four, six...)
}

// usable are the preferred addresses without those that an EndpointSlice must not have.
func usable(addresses []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(preferred(addresses), func(a netip.Addr) bool { return Usable(a) != nil })
}

func onInterface(local []Interface, name string) ([]netip.Addr, error) {
	for _, i := range local {
		if i.Name != name {
			continue
		}
		if found := usable(i.Addresses); len(found) > 0 {
			return found, nil
		}
		return nil, fmt.Errorf("interface %s has no address that pods can reach", name)
	}
	return nil, fmt.Errorf("this node has no interface %s that is up (services.address)", name)
}

func inSubnet(local []Interface, cidr string) ([]netip.Addr, error) {
	subnet, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, err
	}
	for _, i := range local {
		for _, a := range usable(i.Addresses) {
			if subnet.Contains(a) {
				return []netip.Addr{a}, nil
			}
		}
	}
	return nil, fmt.Errorf("this node has no address in %s (services.address)", cidr)
}

func has(local []Interface, address netip.Addr) bool {
	for _, i := range local {
		for _, a := range i.Addresses {
			if a == address {
				return true
			}
		}
	}
	return false
}

func join(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func hostInterfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var up []Interface
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		one := Interface{Name: i.Name}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				one.Addresses = append(one.Addresses, prefix.Addr().Unmap())
			}
		}
		up = append(up, one)
	}
	return up, nil
}
