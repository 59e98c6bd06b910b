package status

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Print writes the report for a person: a line for each object.
func Print(out io.Writer, r *Report) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(r.Jobs) > 0 {
		fmt.Fprintln(table, "JOB\tUSER\tSLURM\tOBJECT\tSTATE\tAGE")
	}
	for _, job := range r.Jobs {
		user := job.User
		if user == "" {
			user = "-"
		}
		if len(job.Objects) == 0 {
			state := "nothing is held"
			if job.Objects == nil {
				state = "-"
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t-\t%s\t-\n", job.ID, wire.OneLine(user), job.Slurm, state)
		}
		for _, o := range job.Objects {
			age := "-"
			if o.AgeSeconds != nil {
				age = duty.Age(time.Duration(*o.AgeSeconds) * time.Second)
			}
			state := o.State
			if o.Error != "" {
				state += ": " + o.Error
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", job.ID, wire.OneLine(user), job.Slurm, o.Name, wire.OneLine(state), age)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(r.Jobs) == 0 {
		fmt.Fprintf(out, "nothing is held for jobs of cluster %s\n", r.Cluster)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(out, "note:", wire.OneLine(note))
	}
	return nil
}

// PrintJSON writes it for a program.
func PrintJSON(out io.Writer, r *Report) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
