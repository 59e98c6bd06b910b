package step

import (
	"context"
	"fmt"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// delivered tells the steps inside the job that they have the variables of the Workflow
// already. A user who forges it only misses them.
const delivered = "SLURMK8S_WORKFLOW"

// storage adds what DWS tells the job, where its storage is above all. Without it the
// job would write somewhere else, so that a failure is the step's.
func (s *session) storage(ctx context.Context, client *kube.Client, env map[string]string) error {
	driver, err := workflow.New(ctx, s.cfg, client, s.log)
	if err != nil {
		return err
	}
	job := &workflow.Job{Job: s.req.job}
	vars, err := driver.Environment(ctx, job)
	if err != nil {
		return fmt.Errorf("variables of the job's storage: %w", err)
	}
	for name, value := range vars {
		if !workflow.IsVariable(name, value) {
			s.log.Warnf("%s of workflow %s: not a valid variable name for a shell, skipped", name, job.Name())
			continue
		}
		env[name] = value
	}
	env[delivered] = job.Name()
	return nil
}
