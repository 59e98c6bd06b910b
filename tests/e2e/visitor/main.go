// Command visitor is what a pod of the test cluster runs: asked for /?url=URL it fetches that
// page, as a pod that uses a Service would, and answers with it.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// patience is for a connection that kube-proxy sends nowhere.
const patience = 2 * time.Second

func main() {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		page, err := visit(client, r.URL.Query().Get("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(page)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

func visit(client *http.Client, url string) ([]byte, error) {
	response, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	page, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return page, err
}
