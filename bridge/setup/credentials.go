package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Files of a node's credential; the second one only with Token.
const (
	nodeKubeconfig = "slurmk8s-node.kubeconfig"
	nodeToken      = "slurmk8s-node.token"
)

// nodeName is a name that a directory and a certificate may have.
var nodeName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`) })

// ControllerToken is the file of the controller's token. It is in state_dir, which
// is SlurmUser's, so that reconcile can renew it.
func ControllerToken(cfg *slurmconf.Config) string {
	return filepath.Join(cfg.StateDir, "controller.token")
}

// Renew renews all credentials that are due and nothing else.
func Renew(ctx context.Context, o Options) error {
	p := &printer{out: o.Out}
	if err := o.settleServer(ctx, p); err != nil {
		return err
	}
	if err := o.credentials(ctx, p); err != nil {
		return err
	}
	p.summary()
	return nil
}

// credentials makes those that are not there, belong to another API server, or have
// less than a third of their life left.
func (o *Options) credentials(ctx context.Context, p *printer) error {
	if err := o.controllerCredential(ctx, p); err != nil {
		return err
	}
	switch {
	case o.Output == "" && o.nodes():
		p.later("- credentials for nodes: run setup again with --output DIR")
		return nil
	case o.Output == "" || o.Remote && !o.nodes():
		return nil
	}
	nodes := o.Nodes
	if nodes == nil {
		listed, err := slurmconf.Nodes(o.Config.SlurmConf)
		if err != nil {
			return err
		}
		for _, n := range listed {
			nodes = append(nodes, n.Name)
		}
	}
	return o.nodeCredentials(ctx, p, unique(nodes))
}

// settleServer decides on the API server's URL in the credentials. That of an earlier
// --server is kept as long as the cluster's authority is the same.
func (o *Options) settleServer(ctx context.Context, p *printer) error {
	if o.Server != "" {
		return nil
	}
	path := o.Config.Kubernetes.Kubeconfig
	if o.Remote {
		path = o.stagedKubeconfig()
	}
	var trusted []uint32
	if of, err := slurmUser(ctx, o.Config); err == nil {
		trusted = []uint32{uint32(of.UID)}
	}
	had, err := kube.ReadCredential(path, trusted...)
	switch {
	case err == nil && had.SameServer(had.Server, had.TLSServerName, o.Admin.CA) && had.Server != o.Admin.Server:
		o.Server = had.Server
		p.note("the credentials keep %s of an earlier --server; give --server to change it", had.Server)
	case o.Admin.Proxied:
		return errors.New("the administrator's kubeconfig has proxy-url, and slurmk8s uses no proxy: give --server URL, by which Slurm's hosts reach the API server themselves")
	default:
		o.Server = o.Admin.Server
	}
	return nil
}

// stagedKubeconfig is the controller's, with Remote.
func (o *Options) stagedKubeconfig() string {
	return filepath.Join(o.Output, "controller", "slurmk8s.kubeconfig")
}

// controllerCredential makes the credentials of slurmctld's host.
func (o *Options) controllerCredential(ctx context.Context, p *printer) error {
	var of *hostfile.Owner
	if o.Remote {
		if err := os.MkdirAll(filepath.Join(o.Output, "controller"), 0o700); err != nil {
			return err
		}
	} else {
		var err error
		if of, err = slurmUser(ctx, o.Config); err != nil {
			return err
		}
		if change, err := keepDir(o.Config.StateDir, of); err != nil {
			return err
		} else if change == Created {
			p.did(change, "directory "+o.Config.StateDir)
		}
	}
	err := o.accountCredential(ctx, p, manifests.Controller, o.Config.Kubernetes.Kubeconfig, o.stagedKubeconfig(), ControllerToken(o.Config), of)
	if err != nil || !hasBundleCredential(o.Config) {
		return err
	}
	const token = "bundles.token"
	if path := o.Config.Bundles.Kubeconfig; !o.Remote && foreign(path, token) {
		p.note("bundles.kubeconfig %s has a credential that setup did not make: left alone", path)
		return nil
	}
	staged := filepath.Join(o.Output, "controller", "slurmk8s-bundles.kubeconfig")
	return o.accountCredential(ctx, p, manifests.Bundles, o.Config.Bundles.Kubeconfig, staged, filepath.Join(o.Config.StateDir, token), of)
}

// foreign reports whether a file is no kubeconfig that setup made for a token file of this name.
// A file that is not there, or empty, is not foreign.
func foreign(path, token string) bool {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return false
	}
	file, err := clientcmd.LoadFromFile(path)
	if err != nil || len(file.AuthInfos) == 0 {
		return true
	}
	for _, user := range file.AuthInfos {
		if filepath.Base(user.TokenFile) != token {
			return true
		}
	}
	return false
}

// accountCredential makes a ServiceAccount's kubeconfig and its token, or with Remote both next
// to staged.
func (o *Options) accountCredential(ctx context.Context, p *printer, account, config, staged, token string, of *hostfile.Owner) error {
	place, tokenPlace := config, token
	if o.Remote {
		place, tokenPlace = staged, filepath.Join(filepath.Dir(staged), filepath.Base(token))
	}
	// The kubeconfig names the token where it will be, not where it may be staged.
	text, err := o.kubeconfig(o.Config.Workflows.Namespace, &clientcmdapi.AuthInfo{TokenFile: token})
	if err != nil {
		return err
	}
	change, err := o.renewToken(ctx, tokenPlace, account, "", of)
	if err != nil {
		return err
	}
	p.did(change, tokenPlace)
	renewed := change != Unchanged
	if change, err = keepFile(place, text, 0o600, of); err != nil {
		return err
	}
	p.did(change, place)
	if o.Remote && (renewed || change != Unchanged) {
		user := "root"
		if conf, err := slurmconf.ReadSlurmConf(o.Config.SlurmConf); err == nil {
			user = conf.SlurmUser
		}
		for _, f := range [][2]string{{place, config}, {tokenPlace, token}} {
			p.later("- on the controller: install -o %s -m 0600 %s %s", user, f[0], f[1])
		}
	}
	return nil
}

// renewToken keeps a token file that still has most of its life.
func (o *Options) renewToken(ctx context.Context, path, account, node string, of *hostfile.Owner) (Change, error) {
	info, err := os.Lstat(path)
	there := err == nil
	if there && info.Mode() == 0o600 && of.Has(info) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		// That of an account which was made again, or of another cluster, is good for nothing.
		c := kube.ReadToken(string(text))
		if c.User == subject(account) && !c.NotAfter.IsZero() && !c.Due(time.Now()) && c.AccountUID == o.accountUID(ctx, account) {
			return Unchanged, nil
		}
	}
	token, err := newToken(ctx, o.Admin.Client, account, node, o.Lifetime)
	if err != nil {
		return "", err
	}
	if err := writeFile(path, []byte(token+"\n"), 0o600, of); err != nil {
		return "", err
	}
	if there {
		return Changed, nil
	}
	return Created, nil
}

// nodeCredentials makes those of all nodes, several at once. The first error ends it:
// what one node's meets, a cluster that signs nothing, all would wait for.
func (o *Options) nodeCredentials(ctx context.Context, p *printer, nodes []string) error {
	const atOnce = 16
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	changes := make([]Change, len(nodes))
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, node := range nodes {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			change, err := o.nodeCredential(ctx, node)
			if err != nil {
				stop(err) // the first one counts
				return
			}
			changes[i] = change
		})
	}
	group.Wait()
	changed := false
	for i, change := range changes {
		if change != "" {
			p.did(change, filepath.Join(o.Output, "nodes", nodes[i], nodeKubeconfig))
			changed = changed || change != Unchanged
		}
	}
	if changed {
		p.later("- copy the files of %s/nodes/NODE to each NODE, into %s, owner root, mode 0600",
			o.Output, filepath.Dir(o.Config.Services.Kubeconfig))
	}
	return context.Cause(ctx)
}

func (o *Options) nodeCredential(ctx context.Context, node string) (Change, error) {
	if !nodeName().MatchString(node) {
		return "", fmt.Errorf("%q cannot be the name of a node", node)
	}
	dir := filepath.Join(o.Output, "nodes", node)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, nodeKubeconfig)
	had, err := kube.ReadCredential(path)
	there := err == nil
	if o.NodeCredential == Token || o.NodeCredential == "" && there && had.TokenFile != "" {
		text, err := o.kubeconfig("", &clientcmdapi.AuthInfo{TokenFile: nodeToken})
		if err != nil {
			return "", err
		}
		token, err := o.renewToken(ctx, filepath.Join(dir, nodeToken), manifests.Node, node, nil)
		if kube.Is(err, kube.NotFound) {
			return "", fmt.Errorf("node %s: %w: a token is bound to a Kubernetes node of that name; other nodes need --node-credential=certificate", node, err)
		}
		if err != nil {
			return "", fmt.Errorf("node %s: %w", node, err)
		}
		change, err := keepFile(path, text, 0o600, nil)
		if token != Unchanged {
			change = token
		}
		return change, err
	}
	if there && had.SameServer(o.Server, o.Admin.TLSServerName, o.Admin.CA) && had.User == nodeUserPrefix+node && !had.Due(time.Now()) {
		return Unchanged, nil
	}
	certificate, key, err := o.newCertificate(ctx, node)
	if err != nil {
		return "", err
	}
	text, err := o.kubeconfig("", &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key})
	if err != nil {
		return "", err
	}
	change := Created
	if there {
		change = Changed
	}
	return change, writeFile(path, text, 0o600, nil)
}

func (o *Options) kubeconfig(namespace string, auth *clientcmdapi.AuthInfo) ([]byte, error) {
	const name = "slurmk8s"
	file := clientcmdapi.NewConfig()
	file.Clusters[name] = &clientcmdapi.Cluster{Server: o.Server, CertificateAuthorityData: o.Admin.CA, TLSServerName: o.Admin.TLSServerName}
	file.AuthInfos[name] = auth
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	file.CurrentContext = name
	return clientcmd.Write(*file)
}

// slurmUser is whose the controller's files are; only root can make them so.
func slurmUser(ctx context.Context, cfg *slurmconf.Config) (*hostfile.Owner, error) {
	account, err := users.SlurmUser(ctx, cfg.SlurmConf)
	if err != nil {
		return nil, fmt.Errorf("%w: if this host is not the controller, give --output DIR --remote", err)
	}
	of := &hostfile.Owner{UID: int(account.UID), GID: int(account.GID)}
	if euid := os.Geteuid(); euid != 0 && euid != of.UID {
		return nil, fmt.Errorf("only root or %s can write the controller's credential here: run setup as root, or give --output DIR --remote", account.Name)
	}
	return of, nil
}

// keepDir makes a directory for SlurmUser alone.
func keepDir(path string, of *hostfile.Owner) (Change, error) {
	if _, err := os.Stat(path); err == nil {
		return Unchanged, nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	return Created, os.Chown(path, of.UID, of.GID)
}
