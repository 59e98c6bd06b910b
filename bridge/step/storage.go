package step

import (
	"context"
	"fmt"
	"maps"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/workflow"
)

// storage adds what DWS tells the job, where its storage is above all, and keeps it for the
// job's later steps on this node. Without it the job would write somewhere else, so that a
// failure is the step's.
func (s *session) storage(ctx context.Context, client *kube.Client, env map[string]string) error {
	driver, err := workflow.New(ctx, s.cfg, client, s.log)
	if err != nil {
		return err
	}
	job := &workflow.Job{Job: s.req.job}
	delivery, err := driver.Deliver(ctx, job, s.req.node)
	if err != nil {
		return fmt.Errorf("variables of the job's storage: %w", err)
	}
	if delivery == nil {
		return nil
	}
	for _, name := range delivery.Skipped {
		s.log.Warnf("%s of workflow %s: not a valid variable for a shell, skipped", name, job.Name())
	}
	if err := workflow.NodeFiles(s.cfg.Services.RunDir).Keep(job.ID, job.UID, s.req.gid, delivery); err != nil {
		if delivery.Token != "" {
			return err
		}
		s.log.Warnf("each step of the job here has to ask Kubernetes: %v", err)
	}
	maps.Copy(env, delivery.Env)
	return nil
}
