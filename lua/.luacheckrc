-- Only what Lua 5.1 to 5.4 have in common; Slurm's table and its hooks.
std = "min"
max_line_length = 120
read_globals = { "slurm" }
globals = {
	"slurm_bb_job_process", "slurm_bb_pools", "slurm_bb_job_teardown", "slurm_bb_setup",
	"slurm_bb_data_in", "slurm_bb_test_data_in", "slurm_bb_real_size", "slurm_bb_paths",
	"slurm_bb_pre_run", "slurm_bb_post_run", "slurm_bb_data_out", "slurm_bb_test_data_out",
	"slurm_bb_get_status", "slurm_job_submit", "slurm_job_modify",
}
