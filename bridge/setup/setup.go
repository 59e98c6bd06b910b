// Package setup makes in Kubernetes and on disk what the bridge needs: rights,
// opened namespaces, the list of nodes, and credentials that end. Whatever is there
// already as it should be is left alone.
package setup

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/duty/all"
	"slurmk8s.io/slurmk8s/packaging/manifests"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// The values of Options.NodeCredential.
const (
	Certificate = "certificate" // of user slurmk8s:node:NAME, signed by the cluster
	Token       = "token"       // of ServiceAccount slurm/slurmk8s-node, bound to the Node object
)

// Options say what to make. Admin may be nil for a dry run.
type Options struct {
	Config    *slurmconf.Config
	Admin     *Administrator
	Server    string        // the API server's URL in the credentials; "": as it is, or the administrator's
	Open      []string      // namespaces for services, besides those of slurmk8s.toml
	Lifetime  time.Duration // of each credential
	TakeNodes bool          // the controller takes nodes from Kubernetes (PrologSlurmctld)
	Overwrite bool          // take over fields that somebody else wrote

	Output         string            // directory of the credentials of nodes; "": make none
	Remote         bool              // the controller's credential goes to Output too
	Nodes          []string          // make credentials for these only; nil: all of slurm.conf
	NodeAddresses  map[string]string // instead of slurm.conf's, by node
	NodeCredential string            // Certificate or Token; "": as it is, or Certificate
	SigningLimit   time.Duration     // how long the cluster may take to sign a certificate; 0: 30s

	Plugin         string // slurmk8s_spank.so, for its line in plugstack.conf
	WriteSlurmConf bool   // append the lines that Slurm's files lack

	Out io.Writer // a line for each thing
}

// nodes tells whether nodes are to have rights and a credential of their own: for
// services, or because their credentials are asked for (workflows=on needs one too).
func (o *Options) nodes() bool {
	return len(o.open()) > 0 || len(o.Config.Services.Allow) > 0 || o.Output != "" && !o.Remote
}

// open are all namespaces that are to be open to services.
func (o *Options) open() []string {
	return unique(append(o.Config.Services.Named(), o.Open...))
}

// Run makes everything. It says each thing that it found or did, and at the end
// what is left to do by hand. The error is the first thing that could not be done.
func Run(ctx context.Context, o Options) error {
	p := &printer{out: o.Out}
	if err := o.settleServer(ctx, p); err != nil {
		return err
	}
	plan, err := o.plan(ctx, p)
	if err != nil {
		return err
	}
	objects, err := plan.Objects()
	if err != nil {
		return err
	}
	apply := applier{client: o.Admin.Client, manager: plan.manager, force: o.Overwrite}
	for _, u := range objects {
		change, err := apply.object(ctx, u)
		if err != nil {
			return err
		}
		p.did(change, name(u))
	}
	if err := o.credentials(ctx, p); err != nil {
		return err
	}
	if err := o.slurm(p); err != nil {
		return err
	}
	p.summary()
	return nil
}

// DryRun writes the manifests to manifests and changes nothing. With an
// administrator's access it says on Out what Run would change.
func DryRun(ctx context.Context, o Options, manifests io.Writer) error {
	p := &printer{out: o.Out, dryRun: true}
	plan, err := o.plan(ctx, p)
	if err != nil {
		return err
	}
	objects, err := plan.Objects()
	if err != nil {
		return err
	}
	if err := writeYAML(manifests, objects); err != nil {
		return err
	}
	if o.Admin == nil {
		return nil
	}
	apply := applier{client: o.Admin.Client, manager: plan.manager, force: o.Overwrite, dryRun: true}
	for _, u := range objects {
		change, err := apply.object(ctx, u)
		if apierrors.IsConflict(err) {
			p.note("setup would stop here: %v", err)
			continue
		}
		if err != nil {
			return err
		}
		p.did(change, name(u))
	}
	p.summary()
	return nil
}

func (o *Options) plan(ctx context.Context, p *printer) (*Plan, error) {
	plan := &Plan{
		Cluster:   o.Config.Cluster,
		Workflows: o.Config.Workflows.Namespace,
		Open:      o.open(),
		Bundles:   o.Config.Bundles.Named(),
		Nodes:     o.nodes(),
		Patterns:  o.Config.Services.HasPatterns(),
		TakeNodes: o.TakeNodes,

		BundlePatterns: o.Config.Bundles.HasPatterns(),
	}
	for _, d := range all.Duties {
		for _, rights := range d.Rights(o.Config) {
			// Those of nodes, and of a controller that takes nodes, may be asked for by flags.
			if d.Used(o.Config) || rights.OnNodes || rights.When == duty.ControllerTakes {
				plan.Rights = append(plan.Rights, rights)
			}
		}
	}
	if plan.BundlePatterns {
		p.note("[[bundles.allow]] has a pattern as namespace: in each matching namespace, set the label slurmk8s.io/bundles=open and bind ClusterRole %s to ServiceAccount %s/%s",
			manifests.Bundles, manifests.Namespace, plan.bundleAccount())
	}
	if o.Config.Bundles.Impersonate != "" {
		p.later("- bundles.impersonate is set: write your users into packaging/manifests/bundles-impersonation.yaml and apply it")
	}
	if !plan.Nodes {
		p.note("services are not set up: neither --open nor [[services.allow]] of slurmk8s.toml names a namespace, and there is no --output for the credentials of nodes")
		return plan, nil
	}
	if plan.Patterns {
		p.note("[[services.allow]] has a pattern as namespace: open each matching namespace with --open")
	}
	if o.Config.Services.Impersonate != "" {
		p.later("- services.impersonate is set: write your users into packaging/manifests/impersonation.yaml and apply it")
	}
	nodes, err := slurmconf.Nodes(o.Config.SlurmConf)
	if err != nil {
		return nil, fmt.Errorf("nodes of Slurm: %w", err)
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	given, err := o.given(ctx, p, names)
	if err != nil {
		return nil, err
	}
	found, err := addresses(ctx, nodes, given)
	if err != nil {
		return nil, err
	}
	plan.Given = slices.Sorted(maps.Keys(given))
	plan.Addresses = map[string]string{}
	for _, n := range found {
		if n.Problem != "" {
			p.note("node %s: not added to ConfigMap slurm/slurmk8s-nodes: %s", n.Name, n.Problem)
			continue
		}
		plan.Addresses[n.Name] = n.Addresses
		p.note("node %s may publish %s (%s)", n.Name, n.Addresses, n.From)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no nodes: give them and their addresses with --node-addresses", o.Config.SlurmConf)
	}
	return plan, nil
}
