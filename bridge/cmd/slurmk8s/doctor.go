package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/doctor"
)

const doctorHelp = `Usage: slurmk8s doctor [--config FILE] [--role ROLE,...] [--node NAME] [--json]

Checks this host for slurmk8s, from Slurm's configuration to the last right in
Kubernetes, and says what to do about what it finds. It changes nothing. Run it as
root: the credentials are closed to others.

  --role ROLE,...  controller, node or login (default: what slurm.conf says this host is)
  --node NAME      the node's name in slurm.conf (default: the host's name)
  --json           for programs
  --limit TIME     how long all of it may take (default 60s)

Exit status: 0 all is well, 1 warnings only, 2 something failed, 64 wrong usage.
`

// Exit statuses of doctor.
const (
	exitWarnings = 1
	exitSick     = 2
)

func runDoctor(ctx context.Context, args []string) int {
	set, config := flags("doctor")
	roles := set.String("role", "", "")
	node := set.String("node", "", "")
	asJSON := set.Bool("json", false, "")
	limit := set.Duration("limit", time.Minute, "")
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Print(doctorHelp)
		return exitOK
	case err != nil:
		return usage("doctor: %v", err)
	case set.NArg() > 0:
		return usage("doctor takes no argument %q", set.Arg(0))
	}
	path, err := filepath.Abs(*config)
	if err != nil {
		return failed(err)
	}
	o := doctor.Options{ConfigPath: path, NodeName: *node, Paths: doctor.ThisHost()}
	for _, name := range strings.FieldsFunc(*roles, func(r rune) bool { return r == ',' }) {
		switch role := doctor.Role(strings.TrimSpace(name)); role {
		case doctor.Controller, doctor.Node, doctor.Login:
			o.Roles = append(o.Roles, role)
		default:
			return usage("doctor: --role %q is none of controller, node, login", name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	results := doctor.Run(ctx, o)
	if *asJSON {
		if err := doctor.PrintJSON(os.Stdout, results); err != nil {
			return failed(err)
		}
	} else {
		doctor.Print(os.Stdout, results)
	}
	switch doctor.Worst(results) {
	case doctor.Failed:
		return exitSick
	case doctor.Warning:
		return exitWarnings
	}
	return exitOK
}
