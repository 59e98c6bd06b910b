module slurmk8s.io/slurmk8s

go 1.25.0
