/*
 * inherited_pipes.h - descriptors that a hook's process must close first.
 */
#ifndef SLURMK8S_INHERITED_PIPES_H
#define SLURMK8S_INHERITED_PIPES_H

/*
 * Close the pipes of other hooks. Only for a process that Slurm made for one hook.
 *
 * Up to 24.05, slurmscriptd makes a pipe and forks a child for each hook, in several
 * threads at once and without O_CLOEXEC: a child may be forked while the pipe of another
 * hook is open for writing. Slurm sees the end of that hook only when this child is gone
 * too, which may be hours later. Of its own pipe a child has closed the reading end; of
 * another's it has both ends: those are closed here. (So are both ends of slurmscriptd's
 * wake-up pipe, which means nothing to a child.) From 24.11 on there is none.
 */
void close_inherited_pipes(void);

#endif
