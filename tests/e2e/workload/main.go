// Command workload is what the tests run in pods on the nodes that jobs take away:
//
//	workload idle              until it is told to end
//	workload stubborn          and beyond: it has to be killed
//	workload driver            an application as Spark's are: see driver.go
//	workload executor URL      a pod of it
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	var err error
	switch mode {
	case "idle":
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		<-told
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		for {
			time.Sleep(time.Hour)
		}
	case "driver":
		err = drive()
	case "executor":
		err = execute(os.Args[len(os.Args)-1])
	default:
		err = fmt.Errorf("workload: unknown mode %q", mode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
