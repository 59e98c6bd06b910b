package workflow

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
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
	for _, optional := range [][2]string{{"elapsed", o.elapsed()}, {"message", o.Message}} {
		if optional[1] != "" {
			words = append(words, optional[0]+"="+word(optional[1]))
		}
	}
	return strings.Join(words, " "), nil
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

// word makes text fit one word of a status line.
func word(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '=' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, shorten(text, 400))
}
