// Command exporter stands in for Arkouda's, in an image of its name, where the bundle
// arkouda-exporter calls it as python: python -c TEXT. It gives on what the server has for it.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	server := net.JoinHostPort(os.Getenv("ARKOUDA_METRICS_SERVICE_HOST"), os.Getenv("ARKOUDA_METRICS_SERVICE_PORT"))
	text := os.Args[len(os.Args)-1]
	if !strings.Contains(text, "arkouda_metrics_exporter") {
		waitFor(server) // what the init container does
		return
	}
	if _, err := ask(server); err != nil {
		fmt.Fprintln(os.Stderr, err) // as the real one
		os.Exit(1)
	}
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		metrics, err := ask(server)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(metrics)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+os.Getenv("METRICS_SCRAPE_PORT"), nil))
	os.Exit(1)
}

func waitFor(server string) {
	for {
		connection, err := net.DialTimeout("tcp", server, 5*time.Second)
		if err == nil {
			connection.Close()
			return
		}
		time.Sleep(time.Second)
	}
}

func ask(server string) ([]byte, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + server + "/")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(io.LimitReader(response.Body, 1<<20))
}
