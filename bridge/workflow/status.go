package workflow

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

// NoUID stands for a user whom Slurm does not name (22.05).
const NoUID = -1

// Status is the answer to `scontrol show bbstat workflow ID`: words of the form
// key=value, each with exactly one "=", beginning with the three that scripts read. A
// user who is neither the job's owner nor privileged gets an error; an unknown user gets
// only these three words.
func (d *Driver) Status(ctx context.Context, job *Job, asker int64, privileged bool) (string, error) {
	o, err := d.get(ctx, job.Name())
	if err != nil {
		return "", err
	}
	if o == nil || !d.ours(o) {
		return "", fmt.Errorf("job %d has no workflow %s", job.ID, d.path(job.Name()))
	}
	if asker != NoUID && asker != o.OwnerUID && !privileged {
		return "", fmt.Errorf("job %d belongs to another user", job.ID)
	}
	words := []string{
		"desiredState=" + word(string(o.Desired)),
		"currentState=" + word(string(o.State)),
		"status=" + word(o.Status),
	}
	if asker == NoUID {
		return strings.Join(words, " "), nil
	}
	words = append(words, fmt.Sprintf("ready=%t", o.Ready), "workflow="+word(d.path(o.Name)))
	for _, optional := range [][2]string{
		{"elapsed", o.elapsed()}, {"message", o.Message},
		{"placement", o.Annotations[annotationPlacement]}, {"rabbits", d.rabbits(ctx, o)},
	} {
		if optional[1] != "" {
			words = append(words, optional[0]+"="+word(optional[1]))
		}
	}
	return strings.Join(words, " "), nil
}

// rabbits are those that the job's storage was placed on, "r1,r2"; "" where none was, or
// they cannot be read now.
func (d *Driver) rabbits(ctx context.Context, o *object) string {
	on := map[string]bool{}
	for _, id := range o.Breakdowns {
		u, err := d.objects("directivebreakdowns", id.Namespace).Get(ctx, id.Name)
		if err != nil || u == nil {
			return ""
		}
		b := placement.ReadBreakdown(u)
		if len(b.Sets) == 0 {
			continue
		}
		if u, err = d.objects("servers", b.Servers.Namespace).Get(ctx, b.Servers.Name); err != nil || u == nil {
			return ""
		}
		servers := placement.ReadServers(u)
		maps.Copy(on, servers.Rabbits())
	}
	return strings.Join(slices.Sorted(maps.Keys(on)), ",")
}

// elapsed is how long the present state takes or took; "" is unknown. DWS tells that of a
// state only when it is done with it.
func (o *object) elapsed() string {
	if o.Ready && o.State == o.Desired {
		return o.Elapsed
	}
	since, err := time.Parse(time.RFC3339, o.Annotations[annotationStateSince])
	if err != nil {
		return ""
	}
	return time.Since(since).Truncate(time.Second).String()
}

// Word makes text fit one word of a status line.
func Word(text string) string { return word(text) }

// word makes text fit one word of a status line.
func word(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '=' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, shorten(text, 400))
}
