/*
 * fields.c - see fields.h.
 */
#include "fields.h"

#include <stdio.h>
#include <string.h>

void fields_clear(struct fields *fields)
{
	fields->size = 0;
	fields->overflow = false;
}

void fields_add(struct fields *fields, const char *key, const char *value)
{
	size_t left = FIELDS_MAX_BYTES - 1 - fields->size; /* room for the frame's end */
	int length;

	if (!value)
		return;
	length = snprintf(fields->text + fields->size, left, "%s=%s", key, value);
	if (length < 0 || (size_t)length >= left)
		fields->overflow = true;
	else
		fields->size += (size_t)length + 1;
	fields->text[fields->size] = '\0';
}

void fields_add_number(struct fields *fields, const char *key, unsigned long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%lu", value);
	fields_add(fields, key, text);
}

const char *fields_next(const struct fields *fields, const char *field)
{
	const char *end = fields->text + fields->size;
	const char *next = field ? field + strlen(field) + 1 : fields->text;

	return next < end ? next : NULL;
}

const char *fields_get(const struct fields *fields, const char *key)
{
	size_t length = strlen(key);

	for (const char *f = NULL; (f = fields_next(fields, f));)
		if (strncmp(f, key, length) == 0 && f[length] == '=')
			return f + length + 1;
	return NULL;
}

size_t fields_frame_length(const char *text, size_t size)
{
	size_t start = 0; /* of the string that is looked at */

	while (start < size) {
		const char *end = memchr(text + start, '\0', size - start);

		if (!end)
			return 0;
		if (end == text + start)
			return start + 1;
		start = (size_t)(end - text) + 1;
	}
	return 0;
}

int fields_check(struct fields *fields, size_t size)
{
	fields_clear(fields);
	if (size && size <= FIELDS_MAX_BYTES && fields->text[size - 1] == '\0' &&
	    fields_frame_length(fields->text, size) == size)
		size--; /* the frame's end */
	if (size > FIELDS_MAX_BYTES || (size && fields->text[size - 1] != '\0'))
		return -1;
	for (size_t start = 0; start < size;) {
		const char *field = fields->text + start;
		const char *equals = strchr(field, '=');

		if (!equals || equals == field)
			return -1;
		start += strlen(field) + 1;
	}
	fields->size = size;
	return 0;
}

void fields_message(const struct fields *fields, const char *otherwise,
		    char *line, size_t size)
{
	const char *message = fields_get(fields, "MESSAGE");

	snprintf(line, size, "%s", message && *message ? message : otherwise);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}
