package workflow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// mountInfo lists the mounts of the host; the kernel tells when it changes (proc(5)). It is not
// this process's own list: with job_container/tmpfs Slurm may run the epilog in the mount
// namespace of the job, which DWS's unmount does not reach.
const mountInfo = "/proc/1/mountinfo"

// stillMounted begins the Reason of a node that was drained because a job's storage is still
// mounted there. The node undrains itself when it is not any more (release).
const stillMounted = "slurmk8s: still mounted: "

// StillMounted is the Reason for a job's mounts.
func StillMounted(job uint32, paths []string) string {
	return wire.OneLine(fmt.Sprintf("%s%s of job %d", stillMounted, strings.Join(paths, ", "), job))
}

// holdsMount reports whether a node was drained for that. The provider is not to wait for it.
func holdsMount(s slurm.NodeRecord) bool {
	return s.Drain() && strings.HasPrefix(s.Reason, stillMounted)
}

// Paths are where the job's storage is mounted on this node, as DWS says in DW_JOB_NAME and
// DW_PERSISTENT_NAME. A job of which nothing is kept has none.
func (f NodeFiles) Paths(job uint32) ([]string, error) {
	file, err := os.Open(filepath.Join(f.dir(job), "env"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fields, err := wire.ReadFrame(bufio.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	var paths []string
	for key, value := range fields {
		name, isVariable := strings.CutPrefix(key, wire.KeySetEnv)
		if isVariable && (strings.HasPrefix(name, "DW_JOB_") || strings.HasPrefix(name, "DW_PERSISTENT_")) && filepath.IsAbs(value) {
			paths = append(paths, filepath.Clean(value))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// heldPrefix begins the files of jobs for whose mounts the node was drained: a line for each path.
const heldPrefix = "mounted."

// Hold keeps for what mounts the node is drained.
func (f NodeFiles) Hold(job uint32, paths []string) error {
	return hostfile.Write(hostfile.OfJob(string(f), heldPrefix, job), strings.Join(paths, "\n")+"\n", 0o600)
}

// release undrains the node that was drained for a job's mounts, if these are gone and the Reason
// is still that one.
func (f NodeFiles) release(ctx context.Context, commands slurm.Commands, node string, job uint32) error {
	file := hostfile.OfJob(string(f), heldPrefix, job)
	text, err := hostfile.Read(file)
	if err != nil {
		return err
	}
	paths := strings.Split(strings.TrimSpace(text), "\n")
	left, err := mounted(mountInfo, paths)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s is still mounted", strings.Join(left, ", "))
	}
	states, err := commands.NodeRecords(ctx, node)
	if err == nil && states[node].Drain() && states[node].Reason == StillMounted(job, paths) {
		err = commands.Undrain(ctx, []string{node})
	}
	if err != nil {
		return err
	}
	return hostfile.Remove(file)
}

// mounted are those of the paths that are mount points now.
func mounted(table string, paths []string) ([]string, error) {
	file, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return mountedOf(file, paths)
}

// AwaitUnmounted waits until none of the paths is mounted on this host, or until ctx ends, and
// returns those that are still. It makes no request.
func AwaitUnmounted(ctx context.Context, paths []string) ([]string, error) {
	return awaitUnmounted(ctx, mountInfo, paths)
}

func awaitUnmounted(ctx context.Context, table string, paths []string) ([]string, error) {
	for {
		file, err := os.Open(table)
		if err != nil {
			return nil, err
		}
		left, err := mountedOf(file, paths)
		if err == nil && len(left) > 0 && ctx.Err() == nil {
			// The kernel reports a change as an exceptional condition. A second is for other files.
			fds := []unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLPRI}}
			_, _ = unix.Poll(fds, int(time.Second/time.Millisecond))
		}
		file.Close()
		if err != nil || len(left) == 0 || ctx.Err() != nil {
			return left, err
		}
	}
}

// mountedOf are those of the paths that are mount points.
func mountedOf(table *os.File, paths []string) ([]string, error) {
	var left []string
	lines := bufio.NewScanner(table)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 5 {
			continue
		}
		if at := unescape(words[4]); slices.Contains(paths, at) && !slices.Contains(left, at) {
			left = append(left, at)
		}
	}
	return left, lines.Err()
}

// unescape reads a name as the kernel writes it there: a blank is \\040.
func unescape(name string) string {
	var text strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+3 < len(name) {
			if code, err := strconv.ParseUint(name[i+1:i+4], 8, 8); err == nil {
				text.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		text.WriteByte(name[i])
	}
	return text.String()
}
