/*
 * forge.c - a SPANK plugin of a user who forges: puts $FORGE, "NAME=VALUE", into the
 * spank_job_env of what is submitted, as a client of slurmrestd can.
 */
#include <stdint.h> /* spank.h needs it and does not include it */
#include <stdlib.h>
#include <string.h>

#include <slurm/spank.h>

#undef SLURM_VERSION_NUMBER
#define SLURM_VERSION_NUMBER FOR_SLURM /* Slurm loads a plugin of its own release only */
SPANK_PLUGIN(forge, 1)

int slurm_spank_init_post_opt(spank_t spank, int ac, char **av)
{
	char *text = getenv("FORGE"), *value;
	spank_err_t rc = ESPANK_SUCCESS;

	(void)ac;
	(void)av;
	if (text && (text = strdup(text)) && (value = strchr(text, '='))) {
		*value = '\0';
		rc = spank_job_control_setenv(spank, text, value + 1, 1);
	}
	return rc == ESPANK_SUCCESS ? 0 : -1;
}
