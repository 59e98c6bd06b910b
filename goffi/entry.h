/*
 * entry.h - what entry.c and main.go call of each other. Not installed.
 */
#ifndef SLURMK8S_ENTRY_H
#define SLURMK8S_ENTRY_H

#include <stddef.h>

/* main.go: run a hook. Same contract as slurmk8s_hook(), arguments checked. */
int slurmk8sGoHook(char *name, char **fields, char ***reply);

/* main.go: returns when Go's package initialisation is over. */
void slurmk8sGoReady(void);

/* The soft RLIMIT_NOFILE when the library was loaded; 0 when unknown. */
unsigned long long slurmk8s_entry_soft_nofile(void);

/* Set what slurmk8s_version() returns; called once, before any hook runs. */
void slurmk8s_entry_set_version(const char *text);

/* One line to syslog, the only place for a panic: fd 1 and 2 are the host's. */
void slurmk8s_entry_syslog(const char *line);

/* malloc() that may return NULL: cgo's C.malloc aborts the process instead. */
void *slurmk8s_entry_malloc(size_t size);

#endif
