package setup

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"slurmk8s.io/slurmk8s/bridge/address"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// nodeAddresses is what one node may publish.
type nodeAddresses struct {
	Name      string
	Addresses string // addresses and subnets, separated by commas
	From      string // where they are from
	Problem   string // why there are none
}

// anyNode is the key of addresses that every node may publish; only an administrator
// gives it, by --node-addresses.
const anyNode = "any"

// addresses finds those of all nodes of slurm.conf; given ones win.
func addresses(ctx context.Context, nodes []slurmconf.Node, given map[string]string) ([]nodeAddresses, error) {
	found := make([]nodeAddresses, 0, len(nodes)+len(given))
	known := map[string]bool{}
	for _, n := range nodes {
		if known[n.Name] {
			continue
		}
		known[n.Name] = true
		if n.Name == anyNode {
			return nil, fmt.Errorf("node %q cannot have services: this key of ConfigMap slurm/slurmk8s-nodes stands for all nodes", n.Name)
		}
		found = append(found, nodeAddresses{Name: n.Name, From: n.Addr})
	}
	for name := range given {
		if !known[name] { // a key of its own, such as "any"
			found = append(found, nodeAddresses{Name: name})
		}
	}
	const atOnce = 16
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i := range found {
		n := &found[i]
		if list, ok := given[n.Name]; ok {
			n.Addresses, n.From = list, "from --node-addresses"
			continue
		}
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			n.resolve(ctx)
		})
	}
	group.Wait()
	slices.SortFunc(found, func(a, b nodeAddresses) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

func (n *nodeAddresses) resolve(ctx context.Context) {
	host := n.From
	n.From = "slurm.conf, " + host
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		n.Problem = fmt.Sprintf("%s cannot be resolved here: %v", host, err)
		return
	}
	var usable, refused []string
	for _, a := range list {
		if a = a.Unmap(); address.Usable(a) != nil {
			refused = append(refused, a.String())
		} else {
			usable = append(usable, a.String())
		}
	}
	slices.Sort(usable)
	if n.Addresses = strings.Join(slices.Compact(usable), ","); n.Addresses == "" {
		n.Problem = fmt.Sprintf("%s resolves only to %s here, which no pod can reach: set NodeAddr in slurm.conf, or give --node-addresses",
			host, strings.Join(refused, ", "))
	}
}

// ReadNodeAddresses reads a file of lines "NODE ADDRESS[,ADDRESS...]", where an
// address may be a subnet, and "#" begins a comment.
func ReadNodeAddresses(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]string{}
	scanner := bufio.NewScanner(f)
	for number := 1; scanner.Scan(); number++ {
		text, _, _ := strings.Cut(scanner.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if len(words) != 2 {
			return nil, fmt.Errorf("%s:%d: want a node and its addresses, separated by commas", path, number)
		}
		for _, a := range strings.Split(words[1], ",") {
			_, addressErr := netip.ParseAddr(a)
			_, subnetErr := netip.ParsePrefix(a)
			if addressErr != nil && subnetErr != nil {
				return nil, fmt.Errorf("%s:%d: %q is neither an address nor a subnet", path, number, a)
			}
		}
		all[words[0]] = words[1]
	}
	return all, scanner.Err()
}
