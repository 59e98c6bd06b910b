/*
 * fields.h - a request or its reply: "KEY=VALUE\0KEY=VALUE\0", like an
 * environment, in one piece of memory.
 *
 * On a stream it is a frame: an empty string (one more NUL byte) ends it.
 *
 * A request is never sent without one of its fields: if a field could not be
 * added, fields_text() and fields_vector() return NULL.
 */
#ifndef SLURMK8S_FIELDS_H
#define SLURMK8S_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

/* Limit of a request, the same as in bridge/cmd/slurmk8s/hook.go. */
#define FIELDS_MAX_BYTES (1024 * 1024)
/* Limit of a reply, which is a few lines. */
#define FIELDS_REPLY_MAX_BYTES (64 * 1024)

/* Only fields.c looks inside. All zero: no field. */
struct fields {
	char *text;
	size_t size, capacity;
	bool incomplete; /* a field was not added: too large, or no memory */
};

/* Start again; the memory is kept. */
void fields_clear(struct fields *fields);

/* Free the memory. */
void fields_free(struct fields *fields);

/* Append a field; a NULL value adds nothing. */
void fields_add(struct fields *fields, const char *key, const char *value);
void fields_add_number(struct fields *fields, const char *key, unsigned long value);

/* The request as text. *size does not count the NUL byte that ends a frame, which
 * follows the text. NULL and a line in `problem` if the request is incomplete. */
const char *fields_text(const struct fields *fields, size_t *size, char *problem, size_t problem_size);

/* The request as a NULL-terminated vector of its fields. The caller frees the vector; the
 * strings belong to the request. NULL and a line in `problem` if it is incomplete. */
const char **fields_vector(const struct fields *fields, char *problem, size_t problem_size);

/* The first field for a NULL, the next one for a field; NULL after the last.
 * Every field has a '='. */
const char *fields_next(const struct fields *fields, const char *field);

/* A key's value, or NULL. */
const char *fields_get(const struct fields *fields, const char *key);

/* The length of a whole frame at the start of `text`, including the NUL byte that
 * ends it; 0 if the frame is not complete. */
size_t fields_frame_length(const char *text, size_t size);

/* Read a reply, with or without the end of a frame. Returns 0, or -1 if it is not a
 * list of fields; `fields` is then empty. */
int fields_read(struct fields *fields, const char *text, size_t size);

/* MESSAGE as one printable line, in `line`; `otherwise` if there is none. */
void fields_message(const struct fields *fields, const char *otherwise,
		    char *line, size_t size);

/* Any text (or NULL) as one printable line; `otherwise` if it is empty. */
void fields_line(const char *text, const char *otherwise, char *line, size_t size);

#endif
