# Completion of slurmk8s(1) for bash. What there is to complete is asked of the program
# itself: it answers --help within milliseconds, and nothing here can be out of date.
_slurmk8s() {
	local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		words=$(slurmk8s --help 2>/dev/null | sed -n 's/^  slurmk8s \([a-z-][a-z|-]*\).*/\1/p' | tr '|' ' ')
	elif [ "$command" = hook ]; then
		words=$(slurmk8s hook --help 2>/dev/null | sed -n 's/^  \([a-z][a-z0-9_]*\)$/\1/p')
	elif [[ $word == -* ]]; then
		words="--help $(slurmk8s "$command" --help 2>/dev/null | grep -o -- '--[a-z][a-z-]*' | sort -u)"
	else
		return # files, by -o default
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o default -F _slurmk8s slurmk8s
