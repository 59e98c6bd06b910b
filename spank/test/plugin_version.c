/*
 * plugin_version.c PLUGIN - prints the major and minor number of the Slurm that PLUGIN says
 * it was made for, in hexadecimal. The plugin's functions are Slurm's to provide: only the
 * file is read, in which nothing is called.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	struct stat st;
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	const char *file;
	const Elf64_Ehdr *header;
	const Elf64_Shdr *sections;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 1;
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file == MAP_FAILED)
		return 1;
	header = (const Elf64_Ehdr *)(const void *)file;
	sections = (const Elf64_Shdr *)(const void *)(file + header->e_shoff);
	for (int i = 0; i < header->e_shnum; i++) {
		const Elf64_Sym *symbol = (const Elf64_Sym *)(const void *)(file + sections[i].sh_offset);

		if (sections[i].sh_type != SHT_DYNSYM)
			continue;
		for (size_t n = sections[i].sh_size / sizeof(*symbol); n; n--, symbol++) {
			const char *name = file + sections[sections[i].sh_link].sh_offset + symbol->st_name;
			const Elf64_Shdr *in = &sections[symbol->st_shndx];
			uint32_t version;

			if (strcmp(name, "plugin_version") != 0)
				continue;
			memcpy(&version, file + in->sh_offset + (symbol->st_value - in->sh_addr), sizeof(version));
			printf("%04x\n", version >> 8);
			return 0;
		}
	}
	return 1;
}
