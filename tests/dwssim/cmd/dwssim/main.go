// dwssim runs tests/dwssim's DataWorkflowServices against a cluster, in it or beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

const usage = `usage: dwssim --kubeconfig FILE --webhook-url https://HOST:PORT [--versions V,...] [--rabbits RABBIT=NODE,...;...]
       dwssim --in-cluster --service NAMESPACE/NAME [--versions V,...] [--rabbits RABBIT=NODE,...;...]

Serves DataWorkflowServices for tests: installs its kinds and webhooks, prints
"dwssim: ready" on standard output and works until SIGTERM. Events go to standard error.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dwssim", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage, "\n")
		flags.PrintDefaults()
	}
	kubeconfig := flags.String("kubeconfig", "", "administrator's kubeconfig `file`")
	webhookURL := flags.String("webhook-url", "", "`URL` at which the API server reaches this program (default: a free port of 127.0.0.1)")
	inCluster := flags.Bool("in-cluster", false, "use the pod's service account")
	service := flags.String("service", "", "`NAMESPACE/NAME` of the Service in front of port "+dwssim.ServicePort+" of this program")
	versions := flags.String("versions", strings.Join(dwssim.DefaultVersions, ","), "API `versions` to serve; the last is stored")
	qps := flags.Int("qps", 0, fmt.Sprintf("`requests` that the controller may make in a second, %d with the real DWS (default: any number)", dwssim.RealQPS))
	ruleset := flags.Bool("ruleset", true, "have rules for directives; without, all are refused")
	rabbits := flags.String("rabbits", "", "provide storage as NNF does, on these `RABBIT=NODE,NODE;RABBIT=NODE` (default: directives succeed at once)")
	external := flags.String("external-nodes", "", "compute `nodes` without a rabbit, with --rabbits")
	drive := flags.Int64("drive-bytes", 0, "`bytes` of each of the 18 drives of a rabbit, with --rabbits (default: 2 TiB)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("dwssim: unexpected argument %q", flags.Arg(0))
	}
	nnf, err := provider(*rabbits, *external, *drive)
	if err != nil {
		return fmt.Errorf("dwssim: %w", err)
	}
	var config *rest.Config
	switch {
	case *inCluster && *service != "" && *kubeconfig == "" && *webhookURL == "":
		config, err = rest.InClusterConfig()
	case !*inCluster && *service == "" && *kubeconfig != "":
		config, err = clientcmd.BuildConfigFromFlags("", *kubeconfig)
	default:
		return errors.New("dwssim: give either --kubeconfig [--webhook-url], or --in-cluster --service")
	}
	if err != nil {
		return fmt.Errorf("dwssim: access to the API: %w", err)
	}
	sim, err := dwssim.Start(ctx, config, dwssim.Options{
		Versions:   strings.Split(*versions, ","),
		WebhookURL: *webhookURL,
		Service:    *service,
		QPS:        *qps,
		NNF:        nnf,
		Log:        os.Stderr,
	})
	if err != nil {
		return err
	}
	defer sim.Stop()
	sim.SetRuleset(*ruleset)
	fmt.Println("dwssim: ready")
	<-ctx.Done()
	return nil
}

// provider is the one that the flags ask for; nil for none.
func provider(rabbits, external string, driveBytes int64) (*dwssim.NNF, error) {
	if rabbits == "" {
		if external != "" || driveBytes != 0 {
			return nil, errors.New("--external-nodes and --drive-bytes go with --rabbits")
		}
		return nil, nil
	}
	named, err := dwssim.ParseRabbits(rabbits)
	if err != nil {
		return nil, err
	}
	nnf := &dwssim.NNF{Rabbits: named, DriveBytes: driveBytes}
	if external != "" {
		nnf.External = strings.Split(external, ",")
	}
	return nnf, nil
}
