package hook

import (
	"context"
	"slices"
	"strconv"

	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// maxValues is how many values of one option are looked at. Slurm keeps an option in
// several places; a client without our plugin can put a different value into each.
const maxValues = 4

// openJobSubmit is for job_submit.lua, on the controller as SlurmUser. Without a
// configuration that can be read the syntax is judged all the same.
func openJobSubmit(name string, request wire.Fields) (*call, error) {
	c, err := open(name, request, stateDir)
	if err == nil {
		return c, nil
	}
	c, cannot := openPrompt(name, request)
	if cannot != nil {
		return nil, cannot
	}
	c.cfg = nil
	c.unknown(err)
	return c, nil
}

// unknown notes in the reply why only the node can judge.
func (c *call) unknown(cause error) {
	c.reply[wire.KeyMessage] = wire.Line("checked on the node only: " + cause.Error())
}

// jobSubmit judges a job's options in slurmctld's name, while slurmctld stands still. Who
// submits is slurmctld's word, and the groups are asked for as slurmctld itself does. What
// cannot be known is accepted: the node judges again.
func jobSubmit(ctx context.Context, c *call) error {
	if err := c.need(wire.KeyUID, wire.KeyGID); err != nil {
		return err
	}
	allowed, err := c.jobSubmitRules(ctx)
	if err != nil {
		c.unknown(err)
	}
	namespaces := values(c.request, wire.KeyNamespace)
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	for _, namespace := range namespaces {
		if err := c.judgeOptions(ctx, wire.Fields{wire.KeyNamespace: namespace}, allowed); err != nil {
			return err
		}
		for _, key := range []string{wire.KeyRegister, wire.KeyImport, wire.KeyBundle, wire.KeyNodesOption, wire.KeyEvictGrace, wire.KeyEvictTimeout} {
			for _, value := range values(c.request, key) {
				given := wire.Fields{wire.KeyNamespace: namespace, wire.KeyArray: c.request[wire.KeyArray], key: value}
				if err := c.judgeOptions(ctx, given, allowed); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// values are those of an option: KEY, KEY_2, and so on.
func values(request wire.Fields, key string) []string {
	var all []string
	for n := 1; n <= maxValues; n++ {
		name := key
		if n > 1 {
			name += "_" + strconv.Itoa(n)
		}
		if value, given := request[name]; given {
			all = append(all, value)
		}
	}
	return all
}

// jobSubmitRules are the rules for the job's user; nil where they cannot be known.
func (c *call) jobSubmitRules(ctx context.Context) (rules, error) {
	if c.cfg == nil {
		return rules{}, nil
	}
	name, err := users.Name(ctx, c.job.UID)
	if err != nil {
		return rules{}, err
	}
	who := &policy.Subject{User: name, UID: c.job.UID, GID: c.job.GID, Lenient: true}
	if account := c.request[wire.KeyAccount]; account != "" {
		who.Account = func(context.Context) (string, error) { return account, nil }
	}
	if slices.ContainsFunc(c.cfg.Services.Allow, func(r slurmconf.ServiceRule) bool { return len(r.Groups) > 0 }) ||
		slices.ContainsFunc(c.cfg.Bundles.Allow, func(r slurmconf.BundleRule) bool { return len(r.Groups) > 0 }) {
		if who.Groups, err = users.Groups(ctx, name, c.job.GID); err != nil {
			return rules{}, err
		}
	}
	return c.rulesFor(ctx, who)
}
