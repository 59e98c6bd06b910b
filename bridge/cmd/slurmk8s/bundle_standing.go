package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/version"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// exitDifferent is diff's status where Up would change something.
const exitDifferent = 2

// standing are the flags of the commands for bundles that no job owns.
type standing struct {
	dirs                        []string
	config, kubeconfig, cluster string
	replace                     bool
}

const standingAbout = `A bundle that is made by hand belongs to no job: it stays until it is removed by hand. ns=
is its namespace and must be given; as= tells it from another one of the same bundle.`

func (f *standing) command(use, short, long, what string, run func(ctx context.Context, args []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("bundle %s takes %s", cmd.Name(), what)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := run(cmd.Context(), args)
			var status exit
			if err != nil && !errors.As(err, &status) {
				return end(failed(err))
			}
			return err
		},
	}
	withDirs(cmd, &f.dirs)
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "`FILE` with an administrator's access to Kubernetes; $KUBECONFIG is not read")
	cmd.Flags().StringVar(&f.cluster, "cluster", "", "the Slurm cluster's `NAME` (default: that of the configuration)")
	withConfig(cmd, &f.config)
	return cmd
}

func bundleUpCommand() *cobra.Command {
	var f standing
	cmd := f.command("up NAME|DIR ns=NAMESPACE [KEY=VALUE...] --kubeconfig FILE", "make a bundle that no job owns, or change it",
		`Makes the objects of a bundle, phase after phase, and waits until they are ready. `+standingAbout+`
Done again, objects are changed in place, and those that the bundle does not have any more
are removed.

Exit status: 0 ready, 1 failed; the same command goes on from there.`, "a bundle and its parameters",
		func(ctx context.Context, args []string) error {
			d, rendered, err := f.open(os.Stdout, args)
			if err != nil {
				return err
			}
			set := stage.Of(rendered)
			if err := d.Up(ctx, set, rendered.Timeout, f.replace); err != nil {
				return err
			}
			fmt.Printf("%s: ready in namespace %s\n", set, set.Namespace)
			return nil
		})
	cmd.Flags().BoolVar(&f.replace, "replace", false, "make an object again whose change Kubernetes does not allow")
	return cmd
}

func bundleDiffCommand() *cobra.Command {
	var f standing
	return f.command("diff NAME|DIR ns=NAMESPACE [KEY=VALUE...] --kubeconfig FILE", "show what bundle up would do",
		`Shows what "slurmk8s bundle up" with the same arguments would do: + an object is made,
~ it is changed, - it is removed, ! its change needs --replace. Nothing is changed.

Exit status: 0 nothing, 2 something, 1 failed.`, "a bundle and its parameters",
		func(ctx context.Context, args []string) error {
			d, rendered, err := f.open(io.Discard, args)
			if err != nil {
				return err
			}
			limit, cancel := context.WithTimeout(ctx, rendered.Timeout)
			defer cancel()
			all, err := d.Diff(limit, stage.Of(rendered))
			if err != nil {
				return err
			}
			printDifferences(os.Stdout, all)
			if len(all) > 0 {
				return exit(exitDifferent)
			}
			return nil
		})
}

func printDifferences(out io.Writer, all []stage.Difference) {
	for _, diff := range all {
		switch {
		case diff.Made:
			fmt.Fprintln(out, "+", diff.Object)
		case diff.Pruned:
			fmt.Fprintln(out, "-", diff.Object)
		case diff.Refused != "":
			fmt.Fprintf(out, "! %s\n    %s\n", diff.Object, diff.Refused)
		default:
			fmt.Fprintf(out, "~ %s\n    %s\n", diff.Object, strings.Join(diff.Changes, "\n    "))
		}
	}
}

func bundleDownCommand() *cobra.Command {
	var f standing
	cmd := f.command("down NAME ns=NAMESPACE --kubeconfig FILE", "remove a bundle that bundle up made",
		`Removes the objects of a bundle that "slurmk8s bundle up" made, in reverse order. NAME is what
as= was, or the bundle's name. The bundle's folder is not needed.

Exit status: 0 removed or not there, 1 failed; the same command goes on from there.`, "a bundle and its namespace",
		func(ctx context.Context, args []string) error {
			request, err := bundle.Parse(args[0], args[1:])
			if err == nil && (request.Namespace == "" || len(request.Values) > 0) {
				err = fmt.Errorf("bundle down takes a name and ns=NAMESPACE")
			}
			if err != nil {
				return err
			}
			d, err := f.driver(os.Stdout)
			if err != nil {
				return err
			}
			found, err := d.Down(ctx, request.Namespace, request.Instance)
			if err == nil && !found {
				fmt.Printf("there is no bundle %s in namespace %s that bundle up made\n", request.Instance, request.Namespace)
			}
			return err
		})
	return cmd
}

// open expands a bundle without a job, and connects to Kubernetes.
func (f *standing) open(out io.Writer, args []string) (*stage.Driver, *bundle.Rendered, error) {
	b, err := findOrLoad(f.dirs, args[0])
	if err != nil {
		return nil, nil, err
	}
	request, err := bundle.Parse(b.Name, args[1:])
	if err != nil {
		return nil, nil, err
	}
	if request.Namespace == "" {
		return nil, nil, fmt.Errorf("bundle %s: ns= is missing", b.Name)
	}
	d, err := f.driver(out)
	if err != nil {
		return nil, nil, err
	}
	rendered, err := b.Expand(request, bundle.Facts{Job: d.Job})
	return d, rendered, err
}

// driver connects to Kubernetes. What is done is printed to out.
func (f *standing) driver(out io.Writer) (*stage.Driver, error) {
	if f.kubeconfig == "" {
		return nil, errors.New("--kubeconfig FILE is required: an administrator's kubeconfig")
	}
	path, err := filepath.Abs(f.kubeconfig)
	if err != nil {
		return nil, err
	}
	cluster, timeout := f.cluster, 10*time.Second
	if cfg, err := slurmconf.Load(f.config); err == nil {
		cluster, timeout = cmp.Or(cluster, cfg.Cluster), cfg.Kubernetes.RequestTimeout.Std()
	} else if cluster == "" {
		return nil, fmt.Errorf("%w (or say --cluster)", err)
	}
	logger := logrus.New()
	logger.SetOutput(out)
	logger.SetFormatter(plainLines{})
	log := logrus.NewEntry(logger)
	client, err := kube.New(kube.Options{
		Kubeconfig: path, RequestTimeout: timeout,
		UserAgent: fmt.Sprintf("slurmk8s/%s (cluster %s; bundle)", version.Version, cluster),
	})
	if err != nil {
		return nil, err
	}
	return &stage.Driver{Kube: client, Job: job.Job{Cluster: cluster}, Log: log}, nil
}

// plainLines prints what the driver logs for a person.
type plainLines struct{}

func (plainLines) Format(e *logrus.Entry) ([]byte, error) { return []byte(e.Message + "\n"), nil }
