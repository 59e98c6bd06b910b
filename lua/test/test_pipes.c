/* test_pipes.c - which descriptors a hook's process lets go of. */
#include "../../goffi/test/check.h"
#include "../inherited_pipes.h"

#include <fcntl.h>
#include <stdbool.h>

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

/* As slurmscriptd forks the child of one hook while another thread of it is between
 * pipe() and close() for the next: the child holds both ends of the other's pipe. */
static void test_other_hooks_pipe(void)
{
	int own[2], other[2];

	CHECK(pipe(own) == 0 && pipe(other) == 0, "pipe");
	close(own[0]);
	close_inherited_pipes();
	CHECK(is_open(own[1]), "its own writing end was closed");
	CHECK(!is_open(other[0]) && !is_open(other[1]), "the other hook's pipe is still held");
}

static void test_one_end_is_kept(void)
{
	int reading[2], writing[2];

	CHECK(pipe(reading) == 0 && pipe(writing) == 0, "pipe");
	close(reading[1]);
	close(writing[0]);
	close_inherited_pipes();
	CHECK(is_open(reading[0]) && is_open(writing[1]), "an end that stands alone was closed");
}

static void test_standard_descriptors(void)
{
	int both[2];

	CHECK(pipe(both) == 0 && dup2(both[0], 0) == 0 && dup2(both[1], 1) == 1, "pipe");
	close(both[0]);
	close(both[1]);
	close_inherited_pipes();
	CHECK(is_open(0) && is_open(1), "standard input or output was closed");
}

static void test_other_files(void)
{
	int file = open("/dev/null", O_RDWR), pipes[2];

	CHECK(file > 2 && pipe(pipes) == 0, "open");
	close_inherited_pipes();
	CHECK(is_open(file), "a file that is no pipe was closed");
	close_inherited_pipes(); /* and again, with nothing left to do */
}

int main(void)
{
	static const struct test tests[] = {
		{ "pipes: both ends of another hook's pipe are closed, its own is not", test_other_hooks_pipe },
		{ "pipes: an end that stands alone is kept", test_one_end_is_kept },
		{ "pipes: standard input and output are kept", test_standard_descriptors },
		{ "pipes: what is no pipe is kept", test_other_files },
	};

	return run_tests(tests, sizeof(tests) / sizeof(*tests)) != 0;
}
