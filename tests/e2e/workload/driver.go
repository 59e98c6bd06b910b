package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A driver makes its executors as pods that it owns, hands them tasks, replaces those that are
// lost and hands their tasks to others: what Spark's does (client mode, spark.executor.instances,
// spark.task.maxFailures). It ends when all tasks are done, and says what that took.
//
// Its environment: POD_NAME, POD_UID, POD_NAMESPACE, POD_IP, EXECUTORS, TASKS, and
// EXECUTOR_POD, the JSON of a pod without a name.
const (
	port        = "4041"
	leaseTime   = 2 * time.Second
	taskTime    = 200 * time.Millisecond
	lookForPods = time.Second
)

type application struct {
	mu        sync.Mutex
	leases    []time.Time // of each task; far in the future: done
	attempts  int
	remaining int
	executors int // that were made
	finished  chan struct{}
}

var done = time.Unix(1<<40, 0)

func drive() error {
	tasks, err := strconv.Atoi(os.Getenv("TASKS"))
	if err != nil {
		return fmt.Errorf("TASKS: %w", err)
	}
	wanted, err := strconv.Atoi(os.Getenv("EXECUTORS"))
	if err != nil {
		return fmt.Errorf("EXECUTORS: %w", err)
	}
	cluster, err := inCluster()
	if err != nil {
		return err
	}
	app := &application{leases: make([]time.Time, tasks), remaining: tasks, finished: make(chan struct{})}
	go func() { _ = http.ListenAndServe(":"+port, app) }()
	look := time.NewTicker(lookForPods)
	for {
		if err := app.replaceLost(cluster, wanted); err != nil {
			fmt.Fprintln(os.Stderr, err) // the API server may be away
		}
		select {
		case <-look.C:
		case <-app.finished:
			result := fmt.Sprintf("%d tasks done in %d attempts by %d executors", tasks, app.attempts, app.executors)
			return os.WriteFile("/dev/termination-log", []byte(result), 0o644)
		}
	}
}

// ServeHTTP is asked by executors: GET is a request for a task, POST /N says that it is done.
func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method == http.MethodGet {
		for i, lease := range a.leases {
			if time.Now().After(lease) {
				a.leases[i] = time.Now().Add(leaseTime)
				a.attempts++
				fmt.Fprint(w, i)
				return
			}
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || i < 0 || i >= len(a.leases) || a.leases[i].Equal(done) {
		return
	}
	a.leases[i] = done
	if a.remaining--; a.remaining == 0 {
		close(a.finished)
	}
}

// replaceLost makes executors until as many live as are wanted.
func (a *application) replaceLost(cluster *api, wanted int) error {
	var pods struct {
		Items []struct {
			Metadata struct{ DeletionTimestamp string }
			Status   struct{ Phase string }
		}
	}
	if err := cluster.call(http.MethodGet, "?labelSelector=driver="+os.Getenv("POD_NAME"), nil, &pods); err != nil {
		return err
	}
	living := 0
	for _, p := range pods.Items {
		if p.Metadata.DeletionTimestamp == "" && (p.Status.Phase == "Pending" || p.Status.Phase == "Running") {
			living++
		}
	}
	for ; living < wanted; living++ {
		if err := cluster.call(http.MethodPost, "", a.executorPod(), nil); err != nil {
			return err
		}
		a.executors++
	}
	return nil
}

func (a *application) executorPod() map[string]any {
	var pod map[string]any
	_ = json.Unmarshal([]byte(os.Getenv("EXECUTOR_POD")), &pod)
	pod["metadata"] = map[string]any{
		"name":   fmt.Sprintf("%s-exec-%d", os.Getenv("POD_NAME"), a.executors+1),
		"labels": map[string]any{"driver": os.Getenv("POD_NAME")},
		"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "controller": true,
			"name": os.Getenv("POD_NAME"), "uid": os.Getenv("POD_UID")}},
	}
	container := pod["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	container["args"] = []any{"executor", "http://" + net.JoinHostPort(os.Getenv("POD_IP"), port)}
	return pod
}

// execute asks a driver for tasks until it is gone.
func execute(driver string) error {
	client := &http.Client{Timeout: time.Second}
	for failures := 0; failures < 30; {
		answer, err := client.Get(driver)
		if err != nil {
			failures++
			time.Sleep(taskTime)
			continue
		}
		task, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		time.Sleep(taskTime)
		if len(task) > 0 {
			if answer, err := client.Post(driver+"/"+string(task), "text/plain", nil); err == nil {
				_ = answer.Body.Close()
			}
		}
	}
	return nil
}

// api is the API server as a pod reaches it.
type api struct {
	client     http.Client
	pods, auth string
}

func inCluster() (*api, error) {
	const secrets = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err := os.ReadFile(secrets + "token")
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(secrets + "ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &api{
		client: http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
		pods: "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")) +
			"/api/v1/namespaces/" + os.Getenv("POD_NAMESPACE") + "/pods",
		auth: "Bearer " + string(token),
	}, nil
}

func (a *api) call(method, query string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, a.pods+query, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", a.auth)
	request.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		reason, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s pods: %s: %s", method, response.Status, reason)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
