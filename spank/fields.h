/*
 * fields.h - a request or its reply: "KEY=VALUE\0KEY=VALUE\0", like an
 * environment, in one piece of memory.
 *
 * Where one follows another on a stream it is a frame: an empty string (a zero
 * byte more) ends it.
 */
#ifndef SLURMK8S_SPANK_FIELDS_H
#define SLURMK8S_SPANK_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#define FIELDS_MAX_BYTES (64 * 1024)

struct fields {
	size_t size;
	bool overflow; /* something did not fit: the request must not be sent */
	char text[FIELDS_MAX_BYTES];
};

void fields_clear(struct fields *fields);

/* Append a field; a NULL value adds nothing. */
void fields_add(struct fields *fields, const char *key, const char *value);
void fields_add_number(struct fields *fields, const char *key, unsigned long value);

/* The first field for a NULL, the next one for a field; NULL after the last.
 * Every field has a '='. */
const char *fields_next(const struct fields *fields, const char *field);

/* A key's value, or NULL. */
const char *fields_get(const struct fields *fields, const char *key);

/* The length of a whole frame at the start of `text`, with the zero byte that
 * ends it; 0 if it is not all there. */
size_t fields_frame_length(const char *text, size_t size);

/* Take over a reply of `size` bytes that is already in fields->text, with or
 * without the end of a frame. Returns 0, or -1 if it is not made of fields. */
int fields_check(struct fields *fields, size_t size);

/* MESSAGE as one printable line, in `line`; `otherwise` if there is none. */
void fields_message(const struct fields *fields, const char *otherwise,
		    char *line, size_t size);

#endif
