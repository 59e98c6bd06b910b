package stage

import "slurmk8s.io/slurmk8s/bridge/job"

var theJob = job.Job{Cluster: "alps", ID: 12, UID: 1000, User: "alice", SubmitTime: "1700000000"}
