package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func bundleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bundle COMMAND", Short: "show, check, try and make the bundles of this host",
		Long: `A bundle is a folder of Kubernetes objects with parameters, which an administrator
installed. These commands read the folders in ` + strings.Join(slurmconf.BundleDirs, "\nand ") + `.
list, show, check and render need no credential and ask nothing of Kubernetes.`,
	}
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fmt.Errorf("bundle has no command %q%s", args[0], nearest(args[0], names(cmd), "see slurmk8s bundle --help"))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		writeHelp(os.Stderr, cmd)
		return exit(exitUsage)
	}
	cmd.AddCommand(bundleListCommand(), bundleShowCommand(), bundleCheckCommand(), bundleRenderCommand(),
		bundleUpCommand(), bundleDiffCommand(), bundleDownCommand())
	return cmd
}

// withDirs gives a command the flag --dir.
func withDirs(cmd *cobra.Command, dirs *[]string) {
	cmd.Flags().StringArrayVar(dirs, "dir", slurmconf.BundleDirs, "a `DIR` with bundles instead of the usual ones; may be repeated")
}

// oneArgument wants one argument.
func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return fmt.Errorf("bundle %s takes %s", cmd.Name(), what)
		case len(args) > 1:
			return fmt.Errorf("bundle %s takes %s, not also %q", cmd.Name(), what, args[1])
		}
		return nil
	}
}

func bundleListCommand() *cobra.Command {
	var dirs []string
	cmd := &cobra.Command{
		Use: "list", Short: "list the bundles of this host",
		Long: `Lists the bundles of this host: the name, when the objects are made and what they are.

Exit status: 0 listed, 1 a bundle cannot be used.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return end(runBundleList(os.Stdout, dirs)) },
	}
	withDirs(cmd, &dirs)
	return cmd
}

func runBundleList(out io.Writer, dirs []string) int {
	names, err := bundle.Names(dirs)
	if err != nil {
		return failed(err)
	}
	if len(names) == 0 {
		fmt.Fprintln(out, "no bundle in", strings.Join(dirs, ", "))
		return exitOK
	}
	status := exitOK
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tMADE AT\tSUMMARY")
	for _, name := range names {
		b, err := bundle.Find(dirs, name)
		if err != nil {
			status = failed(err)
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", b.Name, b.When, b.Summary)
	}
	if err := table.Flush(); err != nil {
		return failed(err)
	}
	return status
}

func bundleShowCommand() *cobra.Command {
	var dirs []string
	cmd := &cobra.Command{
		Use: "show NAME", Short: "show the parameters and objects of a bundle",
		Long: `Shows what a bundle is for, its parameters with their types, bounds and defaults, and
the objects that it makes, in order.

Exit status: 0 shown, 1 there is none or it cannot be used.`,
		Args: oneArgument("the name of a bundle"),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := bundle.Find(dirs, args[0])
			if err == nil {
				err = showBundle(os.Stdout, b)
			}
			if err != nil {
				return end(failed(err))
			}
			return nil
		},
	}
	withDirs(cmd, &dirs)
	return cmd
}

func showBundle(out io.Writer, b *bundle.Bundle) error {
	when := map[string]string{
		bundle.WhenStage: "while the job is pending", bundle.WhenStart: "when the job has its nodes",
	}[b.When]
	onFailure := map[string]string{
		bundle.OnFailureHold: "the job is held", bundle.OnFailureCancel: "the job is cancelled", bundle.OnFailureProceed: "the job starts without them",
	}[b.OnFailure]
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "%s: %s\n\n", b.Name, cmp.Or(b.Summary, "(no summary)"))
	fmt.Fprintf(table, "Folder\t%s\n", b.Dir)
	fmt.Fprintf(table, "Made\t%s, within %s; if that fails, %s\n", when, bundle.ShortDuration(b.Timeout), onFailure)
	fmt.Fprintf(table, "Removed\twith the job, within %s a phase\n", bundle.ShortDuration(b.DeleteTimeout))
	fmt.Fprintln(table, "\nPARAMETER\tTYPE\tDEFAULT\tMEANING")
	for _, p := range b.Params {
		if p.Type != bundle.Derived {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", keyOf(p), describeType(p), describeDefault(p), p.Help)
		}
	}
	fmt.Fprintln(table, "\nAlso as=INSTANCE, ns=NAMESPACE, timeout=TIME, wait=ready|none, as in every bundle.")
	fmt.Fprintln(table, "\nPHASE\tWAITS FOR\tOBJECTS")
	for _, phase := range b.Phases {
		wait := phase.Wait
		if phase.OnDelete {
			wait += " (at the end)"
		}
		for _, t := range phase.Objects {
			metadata, _ := t.Object["metadata"].(map[string]any)
			fmt.Fprintf(table, "%s\t%s\t%s %v\n", describePhase(phase), wait, t.Kind().Kind, metadata["name"])
		}
	}
	return table.Flush()
}

func keyOf(p *bundle.Param) string {
	if p.Type == bundle.Arguments {
		return p.Name + ".NAME"
	}
	return p.Name
}

func describePhase(phase *bundle.PhaseTemplate) string {
	if phase.OnlyIf != "" {
		return phase.Name + " (if " + phase.OnlyIf + ")"
	}
	return phase.Name
}

func describeType(p *bundle.Param) string {
	switch text := string(p.Type); {
	case len(p.Choices) > 0:
		return strings.Join(p.Choices, "|")
	case len(p.Match) > 0:
		return text + " " + strings.Join(p.Match, "|")
	case p.Pattern != "":
		return text + " " + p.Pattern
	case p.Type == bundle.String:
		return text
	case p.Min != "" && p.Max != "":
		return text + " " + p.Min + " to " + p.Max
	case p.Min != "":
		return text + " from " + p.Min
	case p.Max != "":
		return text + " up to " + p.Max
	default:
		return text
	}
}

func describeDefault(p *bundle.Param) string {
	switch {
	case p.HasDefault:
		return strconv.Quote(p.Default)
	case p.Required():
		return "(required)"
	}
	return "(optional)"
}

func bundleCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check DIR", Short: "check a folder before it is installed as a bundle",
		Long: `Checks a folder: bundle.toml, the templates and every reference in them. Whether the
hooks would trust the owner and mode of the folder where it is now is said, but is no
failure unless it is among the installed ones.

Exit status: 0 it is a bundle, 1 it is not.`,
		Args: oneArgument("the folder of a bundle"),
		RunE: func(_ *cobra.Command, args []string) error { return end(runBundleCheck(os.Stdout, args[0])) },
	}
}

func runBundleCheck(out io.Writer, dir string) int {
	b, err := bundle.LoadUntrusted(dir)
	if err != nil {
		return failed(err)
	}
	count, used := 0, []string{}
	for _, phase := range b.Phases {
		count += len(phase.Objects)
		used = append(used, phase.Files...)
	}
	fmt.Fprintf(out, "bundle %s: ok: %d objects, %d phases\n", b.Name, count, len(b.Phases))
	files, _ := filepath.Glob(filepath.Join(b.Dir, "*.yaml"))
	for _, file := range files {
		if name := filepath.Base(file); !slices.Contains(used, name) {
			fmt.Fprintf(out, "note: no phase has %s\n", name)
		}
	}
	if _, err := bundle.Load(dir); err != nil {
		if slices.Contains(slurmconf.BundleDirs, filepath.Dir(b.Dir)) {
			return failed(err)
		}
		fmt.Fprintf(out, "note: hooks would not load it here: %v\n", err)
	}
	return exitOK
}

func bundleRenderCommand() *cobra.Command {
	var dirs []string
	var facts bundle.Facts
	var nodes int
	cmd := &cobra.Command{
		Use: "render NAME|DIR [KEY=VALUE...]", Short: "print the objects that a bundle makes",
		Long: `Prints the objects that a bundle makes for the parameters KEY=VALUE, as YAML. An argument
with a "/" is a folder that need not be installed. What Slurm would tell of the job is
made up. ns=NAMESPACE is "default" if it is not given.

Exit status: 0 printed, 1 the bundle or a parameter cannot be used.`,
		Example: "  slurmk8s bundle render ./my-bundle server=n1 interval=30",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("bundle render takes a bundle and its parameters")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			facts.Nodes, facts.User = nodes, cmp.Or(facts.User, currentUser())
			if err := renderBundle(os.Stdout, dirs, facts, args[0], args[1:]); err != nil {
				return end(failed(err))
			}
			return nil
		},
	}
	withDirs(cmd, &dirs)
	cmd.Flags().Uint32Var(&facts.ID, "job", 1, "the job's `ID`")
	cmd.Flags().StringVar(&facts.User, "user", "", "the job's `USER` (default: you)")
	cmd.Flags().StringVar(&facts.Account, "account", "account", "the job's `ACCOUNT`")
	cmd.Flags().StringVar(&facts.Partition, "partition", "partition", "the job's `PARTITION`")
	cmd.Flags().IntVar(&nodes, "nodes", 1, "how many nodes the job has, `N`")
	facts.Cluster, facts.SubmitTime, facts.BatchHost = "cluster", "0", "node"
	facts.UID = uint32(os.Getuid())
	return cmd
}

func currentUser() string {
	if who, err := user.Current(); err == nil {
		return who.Username
	}
	return "user" // of a container without an entry in /etc/passwd
}

func renderBundle(out io.Writer, dirs []string, facts bundle.Facts, name string, words []string) error {
	b, err := findOrLoad(dirs, name)
	if err != nil {
		return err
	}
	request, err := bundle.Parse(b.Name, words)
	if err != nil {
		return err
	}
	request.Namespace = cmp.Or(request.Namespace, "default")
	rendered, err := b.Expand(request, facts)
	if err != nil {
		return err
	}
	if err := printPhases(out, "phase", rendered.Phases); err != nil {
		return err
	}
	return printPhases(out, "at the end, phase", rendered.Delete)
}

// findOrLoad takes a folder for one that is tried, and a name for an installed bundle.
func findOrLoad(dirs []string, name string) (*bundle.Bundle, error) {
	if strings.Contains(name, "/") || name == "." {
		return bundle.LoadUntrusted(name)
	}
	return bundle.Find(dirs, name)
}

func printPhases(out io.Writer, what string, phases []bundle.Phase) error {
	for _, phase := range phases {
		for i, object := range phase.Objects {
			text, err := yaml.Marshal(object.Object)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(out, "---\n# %s %s, wait for %s: %s\n%s", what, phase.Name, phase.Wait, phase.Files[i], text); err != nil {
				return err
			}
		}
	}
	return nil
}
