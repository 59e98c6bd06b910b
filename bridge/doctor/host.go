package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// host is what the checks share.
type host struct {
	o         Options
	cfg       *slurmconf.Config // the defaults, when slurmk8s.toml cannot be used
	cfgErr    error
	slurm     *slurmconf.SlurmConf
	values    map[string]string // of slurm.conf
	valuesErr error
	commands  slurm.Commands
	version   slurm.Version // zero: not known
	plugin    *slurmconf.SpankPlugin
}

func newHost(o Options) *host {
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &host{o: o}
	if h.cfg, h.cfgErr = slurmconf.Load(o.ConfigPath); h.cfgErr != nil {
		h.cfg = slurmconf.Default()
	}
	if h.o.NodeName == "" {
		h.o.NodeName = slurm.ThisNode(h.cfg.SlurmConf)
	}
	h.slurm, _ = slurmconf.ReadSlurmConf(h.cfg.SlurmConf)
	h.values, h.valuesErr = slurmconf.Values(h.cfg.SlurmConf)
	h.commands = slurm.Commands{Dir: h.cfg.SlurmBinDir, Conf: h.cfg.SlurmConf}
	if len(h.o.Roles) == 0 {
		h.o.Roles = h.roles()
	}
	return h
}

// roles are what slurm.conf says of this host; one that it does not know is a login
// host.
func (h *host) roles() []Role {
	name, _ := os.Hostname()
	short, _, _ := strings.Cut(name, ".")
	var roles []Role
	if controllers := slurmconf.Controllers(h.cfg.SlurmConf); slices.Contains(controllers, name) || slices.Contains(controllers, short) {
		roles = append(roles, Controller)
	}
	nodes, _ := slurmconf.Nodes(h.cfg.SlurmConf)
	if slices.ContainsFunc(nodes, func(n slurmconf.Node) bool { return n.Name == h.o.NodeName }) {
		roles = append(roles, Node)
	}
	if len(roles) == 0 {
		roles = append(roles, Login)
	}
	return roles
}

func (h *host) is(whom []Role) bool {
	return len(whom) == 0 || slices.ContainsFunc(whom, func(r Role) bool { return slices.Contains(h.o.Roles, r) })
}

// workflows tells whether Slurm is to serve #DW lines here.
func (h *host) workflows() bool {
	_, err := os.Stat(h.script())
	return h.slurm.BurstBufferType != "" || err == nil
}

// services tells whether jobs may have services.
func (h *host) services() bool { return len(h.cfg.Services.Allow) > 0 }

func (h *host) beside(name string) string { return filepath.Join(filepath.Dir(h.cfg.SlurmConf), name) }

// script is where Slurm looks for it: beside slurm.conf, and nowhere else.
func (h *host) script() string { return h.beside("burst_buffer.lua") }

// seconds is a setting of slurm.conf; there is false when it is not set or endless.
func (h *host) seconds(key string) (d time.Duration, there bool) {
	n, err := strconv.ParseUint(h.values[strings.ToLower(key)], 10, 32)
	if err != nil || n >= 65534 { // NO_VAL16, Slurm's "no limit"
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

// slurmUID is SlurmUser's, for root, who may read what belongs to them.
func (h *host) slurmUID() []uint32 {
	account, err := users.SlurmUser(context.Background(), h.cfg.SlurmConf)
	if err != nil {
		return nil
	}
	return []uint32{account.UID}
}
