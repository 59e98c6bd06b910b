package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

const hookHelp = `Usage: slurmk8s hook [-0] NAME [KEY=VALUE ...]

Runs a hook as Slurm does and prints its reply, a KEY=VALUE a line.
  -0   read the fields from standard input and print the reply, each ended by a
       zero byte (for programs)

Exit status: 0 done, 1 in progress (ask again), 2 the user's mistake, 3 failed.

Hooks:
  %s

For instance, what DWS says to the #DW lines of a script:
  slurmk8s hook slurm_bb_job_process SCRIPT=job.sh JOB_ID=1 UID=1000 GID=1000
`

// maxRequestBytes bounds what a hook is given: paths, names and numbers.
const maxRequestBytes = 1 << 20

func runHook(ctx context.Context, args []string) int {
	zero := len(args) > 0 && args[0] == "-0"
	if zero {
		args = args[1:]
	}
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
		fmt.Printf(hookHelp, strings.Join(hook.Names(), "\n  "))
		if len(args) == 0 {
			return exitUsage
		}
		return exitOK
	}
	name, fields := args[0], args[1:]
	if zero {
		input, err := io.ReadAll(io.LimitReader(os.Stdin, maxRequestBytes+1))
		if err != nil {
			return failed(err)
		}
		if len(input) > maxRequestBytes {
			return failed(fmt.Errorf("the request is larger than %d KiB", maxRequestBytes>>10))
		}
		for field := range strings.SplitSeq(string(input), "\x00") {
			if field != "" {
				fields = append(fields, field)
			}
		}
	}
	request, err := wire.ParseFields(fields)
	if err != nil {
		return usage("%v: see slurmk8s hook --help", err)
	}
	code, reply := hook.Run(ctx, name, request)
	end := "\n"
	if zero {
		end = "\x00"
	}
	for _, key := range slices.Sorted(maps.Keys(reply)) {
		fmt.Print(key, "=", reply[key], end)
	}
	return int(code)
}
