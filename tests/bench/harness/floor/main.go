// Command floor is the least program that can speak to Kubernetes as ours does: it links
// client-go's dynamic client, and does nothing. What it costs to start is not ours to save.
package main

import (
	"fmt"
	"os"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

func main() {
	if len(os.Args) > 1 { // never: so that the linker keeps it
		_, err := dynamic.NewForConfig(&rest.Config{Host: os.Args[1]})
		fmt.Println(err)
	}
}
