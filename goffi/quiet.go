package main

import (
	"flag"
	"io"
	"log"
	"os"
	"runtime"

	"github.com/sirupsen/logrus"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// slurms keeps the files of descriptors 1 and 2 from being collected as garbage, which
// would close them.
var slurms = [...]*os.File{os.Stdout, os.Stderr}

// From Slurm 24.11 on, fd 1 and 2 of a burst buffer hook are its reply: one
// line of a logger would become part of it. Packages that have something to say
// open a log of their own.
func init() {
	log.SetOutput(io.Discard) // slog's default handler ends here too
	logrus.SetOutput(io.Discard)
	quietKlog()
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	// client-go's background goroutines would otherwise panic again after they
	// logged a panic, and the host process would abort.
	utilruntime.ReallyCrash = false

	// For whoever uses os.Stdout or fmt.Println all the same: a closed file
	// takes no descriptor and fails each write.
	if closed, err := os.Open(os.DevNull); err == nil {
		_ = closed.Close()
		os.Stdout, os.Stderr = closed, closed
	}
	runtime.KeepAlive(&slurms)
}

// quietKlog: SetOutput alone does not do, klog copies errors to standard error.
func quietKlog() {
	var flags flag.FlagSet
	klog.InitFlags(&flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
	// klog.Fatal must not end the host process; slurmk8sGoHook recovers this.
	klog.OsExit = func(int) { panic("klog.Fatal") }
}
