/*
 * fields.c - see fields.h.
 */
#include "fields.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096

void fields_clear(struct fields *fields)
{
	fields->size = 0;
	fields->incomplete = false;
}

void fields_free(struct fields *fields)
{
	free(fields->text);
	*fields = (struct fields){ .text = NULL };
}

/* Make room for `more` bytes and a frame's end. */
static bool reserve(struct fields *fields, size_t more)
{
	size_t needed = fields->size + more + 1, capacity = fields->capacity;
	char *text;

	if (more > FIELDS_MAX_BYTES || fields->size + more > FIELDS_MAX_BYTES)
		return false;
	if (needed <= capacity)
		return true;
	if (!capacity)
		capacity = FIRST_CAPACITY;
	while (capacity < needed)
		capacity *= 2;
	text = realloc(fields->text, capacity);
	if (!text)
		return false;
	fields->text = text;
	fields->capacity = capacity;
	return true;
}

void fields_add(struct fields *fields, const char *key, const char *value)
{
	size_t key_size = strlen(key), value_size = value ? strlen(value) : 0;
	char *end;

	if (!value)
		return;
	if (!reserve(fields, key_size + 1 + value_size + 1)) {
		fields->incomplete = true;
		return;
	}
	end = fields->text + fields->size;
	memcpy(end, key, key_size);
	end[key_size] = '=';
	memcpy(end + key_size + 1, value, value_size);
	fields->size += key_size + 1 + value_size + 1;
	/* Of the field, and of a frame. */
	fields->text[fields->size - 1] = fields->text[fields->size] = '\0';
}

void fields_add_number(struct fields *fields, const char *key, unsigned long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%lu", value);
	fields_add(fields, key, text);
}

const char *fields_text(const struct fields *fields, size_t *size, char *problem, size_t problem_size)
{
	if (fields->incomplete) {
		snprintf(problem, problem_size, "the request does not fit into memory or %d KiB",
			 FIELDS_MAX_BYTES >> 10);
		return NULL;
	}
	*size = fields->size;
	return fields->size ? fields->text : "";
}

const char **fields_vector(const struct fields *fields, char *problem, size_t problem_size)
{
	size_t size, count = 0;
	const char **vector;

	if (!fields_text(fields, &size, problem, problem_size))
		return NULL;
	for (const char *f = NULL; (f = fields_next(fields, f));)
		count++;
	vector = calloc(count + 1, sizeof(*vector));
	if (!vector) {
		snprintf(problem, problem_size, "%s", strerror(ENOMEM));
		return NULL;
	}
	count = 0;
	for (const char *f = NULL; (f = fields_next(fields, f));)
		vector[count++] = f;
	return vector;
}

const char *fields_next(const struct fields *fields, const char *field)
{
	const char *next = field ? field + strlen(field) + 1 : fields->text;

	return fields->size && next < fields->text + fields->size ? next : NULL;
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

int fields_read(struct fields *fields, const char *text, size_t size)
{
	fields_clear(fields);
	if (size && fields_frame_length(text, size) == size)
		size--; /* the frame's end */
	if (!reserve(fields, size) || (size && text[size - 1] != '\0'))
		return -1;
	for (const char *field = text; field < text + size; field += strlen(field) + 1) {
		const char *equals = strchr(field, '=');

		if (!equals || equals == field)
			return -1;
	}
	memcpy(fields->text, text, size);
	fields->text[size] = '\0';
	fields->size = size;
	return 0;
}

void fields_message(const struct fields *fields, const char *otherwise,
		    char *line, size_t size)
{
	fields_line(fields_get(fields, "MESSAGE"), otherwise, line, size);
}

void fields_line(const char *text, const char *otherwise, char *line, size_t size)
{
	snprintf(line, size, "%s", text && *text ? text : otherwise);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}
