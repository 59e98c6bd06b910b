package outside

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slurmk8s.io/slurmk8s/bridge/address"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/version"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// The exit codes that Arkouda documents (libcurl's 7 and 22; 36 by its own words).
const (
	Unreachable = 7
	RefusedBy   = 22
	BadKey      = 36
)

// Code returns the exit code for an error and one line that says what to do. For an
// answer of the API server the line begins with its HTTP status.
func Code(err error) (int, string) {
	var status apierrors.APIStatus
	var taken *service.ConflictError
	var credential *CredentialError
	var badURL *URLError
	var wrongCA *tls.CertificateVerificationError
	var unknownCA x509.UnknownAuthorityError
	var tlsRefusal *net.OpError
	switch {
	case errors.As(err, &credential):
		return BadKey, err.Error()
	case errors.As(err, &badURL):
		return Unreachable, err.Error()
	case errors.As(err, &wrongCA), errors.As(err, &unknownCA):
		return BadKey, fmt.Sprintf("the API server's certificate is not of the authority in %s: %v", envCA, err)
	case errors.As(err, &tlsRefusal) && tlsRefusal.Op == "remote error":
		return BadKey, fmt.Sprintf("the API server does not take the certificate in %s: %v", envCert, err)
	case errors.As(err, &taken):
		return RefusedBy, "409: " + err.Error()
	case errors.As(err, &status) && status.Status().Code >= 400:
		return RefusedBy, fmt.Sprintf("%d: %v", status.Status().Code, err)
	}
	var request *kube.RequestError
	if errors.As(err, &request) {
		return Unreachable, err.Error()
	}
	return 1, err.Error()
}

// Options say how to reach Kubernetes, and as what.
type Options struct {
	Kubeconfig string // used when K8S_HOST is not set
	Address    string // of this host; empty: found out
	Env        func(string) string
	Timeout    time.Duration // one request
	Log        *logrus.Entry
}

// maxClusterBytes is the longest name of a cluster in labels and object names.
const maxClusterBytes = 40

// Registrar returns a registrar for this host, which counts as its own cluster in which
// each user is one job that never ends. It does not connect yet: an error is about the
// variables.
func Registrar(ctx context.Context, o Options) (*service.Registrar, error) {
	path, err := Kubeconfig(o.Env)
	if err != nil {
		return nil, err
	}
	if path == "" {
		path = o.Kubeconfig
	}
	if path == "" {
		return nil, &URLError{"which Kubernetes? set " + envHost + ", or give --kubeconfig"}
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	short, _, _ := strings.Cut(strings.ToLower(name), ".")
	client, err := kube.New(kube.Options{
		Kubeconfig: path, RequestTimeout: o.Timeout, UserAgent: fmt.Sprintf("slurmk8s/%s (host %s)", version.Version, short), Log: o.Log,
	})
	if err != nil {
		return nil, &CredentialError{Text: strings.ReplaceAll(err.Error(), "kubeconfig /proc/self/fd/", "credential "), Err: err}
	}
	address, err := findAddress(ctx, name, o)
	if err != nil {
		return nil, err
	}
	uid := uint32(os.Getuid())
	cluster := "host-" + short
	return &service.Registrar{
		Kube: client,
		Job:  job.Job{Cluster: cluster[:min(len(cluster), maxClusterBytes)], ID: uid, UID: uid, User: o.Env("USER")},
		Step: "host", Node: name, Address: address,
		// Nobody renews, so that the registration stays until it is taken away.
		Alive: func(_ context.Context, c service.Claim) (bool, error) { return c.Renewed, nil },
		Log:   o.Log,
	}, nil
}

// findAddress takes what the name of the host resolves to, else the address from
// which the API server is reached.
func findAddress(ctx context.Context, name string, o Options) (netip.Addr, error) {
	cfg := slurmconf.Default()
	cfg.SlurmConf = "/nonexistent"
	if o.Address != "" {
		given, err := netip.ParseAddr(o.Address)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("%q is not an address", o.Address)
		}
		cfg.Services.Address = fmt.Sprintf("%s%s/%d", slurmconf.AddressSubnet, given, given.BitLen())
		return address.Finder{}.Find(ctx, cfg, name)
	}
	found, err := address.Finder{}.Find(ctx, cfg, name)
	if err == nil {
		return found, nil
	}
	if server, parseErr := url.Parse(o.Env(envHost)); parseErr == nil && server.Port() != "" {
		if conn, dialErr := net.Dial("udp", server.Host); dialErr == nil { // sends nothing
			defer conn.Close()
			if local, ok := netip.AddrFromSlice(conn.LocalAddr().(*net.UDPAddr).IP); ok && address.Usable(local.Unmap()) == nil {
				return local.Unmap(), nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("which address do pods reach this host by? give --address (%s resolves to none)", name)
}
