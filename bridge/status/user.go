package status

import (
	"context"
	"os/user"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// ForUser is what a user sees, who has no access to Kubernetes: their own jobs, and of
// one job what Slurm's burst buffer status says, which Slurm keeps to whom it may
// concern.
func ForUser(ctx context.Context, commands slurm.Commands, cluster string, who *user.User, id uint32) (*Report, error) {
	jobs, err := commands.Jobs(ctx, who)
	if err != nil {
		return nil, err
	}
	c := collector{jobs: map[uint32]*Job{}}
	for _, job := range jobs {
		if job.ID == id || id == 0 && !job.Over() {
			c.jobs[job.ID] = &Job{ID: job.ID, User: job.User, Slurm: job.State}
		}
	}
	if mine := c.jobs[id]; mine != nil {
		answer, err := commands.WorkflowStatus(ctx, id)
		switch {
		case err != nil:
			c.note("scontrol show bbstat workflow %d: %v", id, err)
		case answer != "":
			mine.Objects = []Object{{Name: "workflow", State: strings.Join(strings.Fields(answer), " ")}}
		}
	} else if id != 0 {
		c.note("Slurm knows no job %d of user %s", id, who.Username)
	}
	if id == 0 && len(c.jobs) > 0 {
		c.note("\"slurmk8s status JOBID\" shows more about one job")
	}
	c.note("you see what Slurm tells you; services and nodes are shown to root and SlurmUser, who may ask Kubernetes")
	return &Report{Cluster: cluster, Jobs: c.sorted(), Notes: c.notes}, nil
}
