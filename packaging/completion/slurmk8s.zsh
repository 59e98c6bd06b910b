#compdef slurmk8s
# Completion of slurmk8s(1) for zsh. What there is to complete is asked of the program itself,
# as in slurmk8s.bash.
local command=${words[2]}
local -a found
if (( CURRENT == 2 )); then
	found=(${(f)"$(slurmk8s --help 2>/dev/null | sed -n 's/^  slurmk8s \([a-z-][a-z|-]*\).*/\1/p' | tr '|' '\n')"})
elif [[ $command == hook ]]; then
	found=(${(f)"$(slurmk8s hook --help 2>/dev/null | sed -n 's/^  \([a-z][a-z0-9_]*\)$/\1/p')"})
elif [[ ${words[CURRENT]} == -* ]]; then
	found=(--help ${(f)"$(slurmk8s $command --help 2>/dev/null | grep -o -- '--[a-z][a-z-]*' | sort -u)"})
else
	_files
	return
fi
compadd -- $found
