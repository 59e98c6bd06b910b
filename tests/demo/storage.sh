#!/bin/bash
#SBATCH --job-name=demo --nodes=2 --time=5
#DW jobdw type=xfs capacity=1TiB pool=dws name=scratch delay=300ms
#DW copy_in source=/lus/alice/input destination=$DW_JOB_scratch/in delay=1500ms
#DW copy_out source=$DW_JOB_scratch/out destination=/lus/alice/result delay=1500ms
echo "running on $SLURM_JOB_NODELIST with"
env | grep ^DW_ | sort
sleep 1
