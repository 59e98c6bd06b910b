# Completion of slurmk8s(1) for fish. What there is to complete is asked of the program itself,
# as in slurmk8s.bash.
function __slurmk8s_words
	set -l before (commandline --tokenize --current-process --cut-at-cursor)
	if test (count $before) -eq 1
		slurmk8s --help 2>/dev/null | sed -n 's/^  slurmk8s \([a-z-][a-z|-]*\).*/\1/p' | tr '|' '\n'
	else if test $before[2] = hook
		slurmk8s hook --help 2>/dev/null | sed -n 's/^  \([a-z][a-z0-9_]*\)$/\1/p'
	else if string match --quiet -- '-*' (commandline --current-token)
		echo --help
		slurmk8s $before[2] --help 2>/dev/null | grep -o -- '--[a-z][a-z-]*' | sort -u
	else
		__fish_complete_path (commandline --current-token)
	end
end
complete --command slurmk8s --no-files --arguments '(__slurmk8s_words)'
