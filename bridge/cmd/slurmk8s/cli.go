package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// exit is an exit status. The command that ends with it has said why.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// end is what a command returns for an exit status.
func end(status int) error {
	if status == exitOK {
		return nil
	}
	return exit(status)
}

const about = `slurmk8s lets a Slurm cluster and a Kubernetes cluster share storage workflows,
services and nodes from inside Slurm's hooks.`

// commands make the commands in the order of the help.
var commands = []func() *cobra.Command{
	hookCommand, reconcileCommand, prologSlurmctldCommand, epilogSlurmctldCommand, cancelCommand, registerCommand, deregisterCommand,
	statusCommand, storageCommand, cleanupCommand, bundleCommand, doctorCommand, setupCommand, stepCommand, completionCommand,
}

// newRoot makes the command line: help, manual pages and completions come from it.
func newRoot() *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use: "slurmk8s COMMAND", Short: "share workflows, services and nodes between Slurm and Kubernetes", Long: about,
		SilenceErrors: true, SilenceUsage: true, DisableAutoGenTag: true, DisableFlagsInUseLine: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fmt.Errorf("slurmk8s has no command %q%s", args[0], nearest(args[0], names(root), "see slurmk8s --help"))
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		writeHelp(os.Stderr, cmd)
		return exit(exitUsage)
	}
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(os.Stdout, cmd) })
	root.SetFlagErrorFunc(flagMistake)
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && cmd == root {
				err = root.Args(root, rest)
			}
			if err == nil {
				writeHelp(os.Stdout, cmd)
			}
			return err
		},
	})
	root.Flags().Bool("version", false, "print the version")
	for _, make := range commands {
		root.AddCommand(make())
	}
	for _, cmd := range allCommands(root) {
		cmd.Flags().SortFlags = false
		cmd.Flags().BoolP("help", "h", false, "print this help")
	}
	return root
}

// allCommands are a command and those below it.
func allCommands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		all = append(all, allCommands(sub)...)
	}
	return all
}

func names(root *cobra.Command) []string {
	var all []string
	for _, cmd := range root.Commands() {
		if !cmd.Hidden {
			all = append(all, cmd.Name())
		}
	}
	return all
}

// nearest ends a message about a word that is not known.
func nearest(word string, known []string, otherwise string) string {
	if name := slurmconf.Nearest(word, known); name != "" {
		return fmt.Sprintf(": did you mean %q?", name)
	}
	return ": " + otherwise
}

// execute runs a command line and returns its exit status.
func execute(ctx context.Context, args []string) int {
	root := newRoot()
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		withoutQuotes(root)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var status exit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	}
	return usage("%v", err) // all else is a mistake in the command line
}

// withoutQuotes takes the marks off that name a flag's value in help: a shell would show
// them.
func withoutQuotes(root *cobra.Command) {
	for _, cmd := range allCommands(root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") })
	}
}

// flagMistake tells what is wrong with a flag in one line.
func flagMistake(cmd *cobra.Command, err error) error {
	text := err.Error()
	var invalid *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	switch {
	case errors.As(err, &invalid):
		kinds := map[string]string{"int": "a number", "duration": "a time such as 90s", "bool": "true or false"}
		text = fmt.Sprintf("--%s takes %s, not %q", invalid.GetFlag().Name, kinds[invalid.GetFlag().Value.Type()], invalid.GetValue())
	case errors.As(err, &unknown):
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		word := "--" + unknown.GetSpecifiedName()
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			word = "-" + letters // -config was written for --config
		}
		text = fmt.Sprintf("unknown flag %s%s", word, nearest("--"+strings.TrimLeft(word, "-"), known, "see "+cmd.CommandPath()+" --help"))
	}
	if !cmd.HasParent() {
		return errors.New(text)
	}
	return fmt.Errorf("%s: %s", strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), text)
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument %q", cmd.Name(), args[0])
	}
	return nil
}

// withConfig gives a command the flag --config.
func withConfig(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", slurmconf.DefaultPath, "configuration `FILE`")
}

// withLog reads the configuration and opens its log, to be closed after the last line.
func withLog(config string) (*slurmconf.Config, *logrus.Logger, io.Closer, error) {
	cfg, err := slurmconf.Load(config)
	if err != nil {
		return nil, nil, nil, err
	}
	logger, sink, err := logging.New(cfg)
	return cfg, logger, sink, err
}

// helpColumns is how wide help is.
const helpColumns = 90

func writeHelp(out io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(out, "Usage: %s\n\n%s\n", cmd.UseLine(), strings.TrimSpace(cmd.Long))
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintln(out, "\nCommands:")
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				fmt.Fprintf(out, "  %-17s %s\n", sub.Name(), sub.Short)
			}
		}
	}
	fmt.Fprintf(out, "\nFlags:\n%s", cmd.Flags().FlagUsagesWrapped(helpColumns))
	if cmd.Example != "" {
		fmt.Fprintf(out, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(out, "\nRun %s COMMAND --help for details.\n", cmd.CommandPath())
	}
}

func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish", DisableFlagsInUseLine: true,
		Short:     "print the completion script for a shell",
		Long:      "Prints the completion script of slurmk8s for a shell. The packages install it.",
		Example:   "  source <(slurmk8s completion bash)",
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !strings.Contains(" bash zsh fish ", " "+args[0]+" ") {
				return errors.New("completion takes one argument: bash, zsh or fish")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(os.Stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(os.Stdout)
			}
			return cmd.Root().GenFishCompletion(os.Stdout, true)
		},
	}
}
