package faults

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"slurmk8s.io/slurmk8s/tests/eventually"
)

// fakeHookVariable is the environment variable that turns this test program into a small
// hook: it makes a Workflow and waits for Setup. Its value is the defect that it
// has, "none" for a sound one: the runner must find each.
const fakeHookVariable = "FAULTS_FAKE_HOOK"

// The defects, each of which some hook of today's tools has.
const (
	sound      = "none"
	notAgain   = "not idempotent: fails if the Workflow exists"
	noDeadline = "waits for ever"
	talkative  = "message of several lines"
	panics     = "panics on an error"
	vandal     = "changes a foreign Workflow on an error"
	impatient  = "never tries twice"
	blames     = "takes 403 for the user's mistake"
)

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // client-go tells every planned fault on standard error
	if defect := os.Getenv(fakeHookVariable); defect != "" {
		os.Exit(runFakeHook(defect))
	}
	os.Exit(m.Run())
}

type fakeHook struct {
	defect string
	fields map[string]string
	client dynamic.ResourceInterface
}

func runFakeHook(defect string) int {
	h := &fakeHook{defect: defect, fields: map[string]string{}}
	in := bufio.NewScanner(os.Stdin)
	in.Split(func(data []byte, eof bool) (int, []byte, error) {
		if i := strings.IndexByte(string(data), 0); i >= 0 {
			return i + 1, data[:i], nil
		}
		return 0, nil, nil
	})
	for in.Scan() {
		key, value, _ := strings.Cut(in.Text(), "=")
		h.fields[key] = value
	}
	ms, _ := strconv.Atoi(h.fields["DEADLINE_MS"])
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	cfg, err := clientcmd.BuildConfigFromFlags("", h.fields["KUBECONFIG"])
	if err != nil {
		return h.answer(err)
	}
	cfg.QPS = -1
	d, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return h.answer(err)
	}
	h.client = d.Resource(workflows).Namespace(ns)
	err = h.setup(ctx, "bb"+h.fields["JOB_ID"])
	if err != nil && defect == vandal {
		_, _ = h.client.Patch(context.Background(), "foreign", types.MergePatchType, []byte(`{"spec":{"hurry":true}}`), metav1.PatchOptions{})
	}
	return h.answer(err)
}

func (h *fakeHook) answer(err error) int {
	switch {
	case err == nil:
		return CodeOK
	case h.defect == panics:
		panic(err)
	case h.defect == talkative:
		fmt.Printf("MESSAGE=Traceback:\n%v\x00", err)
	default:
		fmt.Printf("MESSAGE=%s\x00", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if h.defect == blames && apierrors.IsForbidden(err) {
		return CodeRefused
	}
	return CodeFailed
}

// setup makes the Workflow, asks for Setup and waits for it.
func (h *fakeHook) setup(ctx context.Context, name string) error {
	err := h.try(ctx, func(ctx context.Context) error {
		_, err := h.client.Create(ctx, newWorkflow(name), metav1.CreateOptions{})
		if h.defect != notAgain && apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	err = h.try(ctx, func(ctx context.Context) error {
		_, err := h.client.Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"desiredState":"Setup"}}`), metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return err
	}
	for {
		var o *unstructured.Unstructured
		err := h.try(ctx, func(ctx context.Context) (err error) {
			o, err = h.client.Get(ctx, name, metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
		if state, _, _ := nested(o.Object, "status", "state"); state == "Setup" {
			return nil
		}
		h.awaitChange(ctx, o.GetResourceVersion())
		if ctx.Err() != nil && h.defect != noDeadline {
			return ctx.Err()
		}
	}
}

func (h *fakeHook) awaitChange(ctx context.Context, version string) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	w, err := h.client.Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		time.Sleep(50 * time.Millisecond)
		return
	}
	defer w.Stop()
	select {
	case <-w.ResultChan():
	case <-ctx.Done():
	}
}

// try is a retry policy in miniature: 300 ms for an attempt, until the deadline.
func (h *fakeHook) try(ctx context.Context, request func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		err := request(attempt)
		cancel()
		switch {
		case err == nil, h.defect == impatient, apierrors.IsForbidden(err), apierrors.IsAlreadyExists(err):
			return err
		case ctx.Err() != nil && h.defect != noDeadline:
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// fakeHookScenario runs the fake hook with a defect.
func fakeHookScenario(t *testing.T, api *fakeAPI, defect string) Scenario {
	t.Helper()
	_, err := admin(api).Create(t.Context(), newWorkflow("foreign"), metav1.CreateOptions{})
	require.NoError(t, err)
	eventually.True(t, "the foreign Workflow has settled", func() bool {
		_, settled, _ := nested(api.get(ns, "foreign"), "status", "state")
		return settled
	})
	return Scenario{
		Name:     defect,
		Deadline: 6 * time.Second, // a machine that does other things too needs seconds for this,
		Setup:    func(context.Context, *Job) error { return nil },
		Command: func(c *Job) Command {
			return Command{
				Argv: []string{os.Args[0]}, Env: []string{fakeHookVariable + "=" + defect},
				Fields: map[string]string{
					"JOB_ID": strconv.Itoa(c.JobID), "KUBECONFIG": c.Kubeconfig,
					"DEADLINE_MS": strconv.FormatInt(c.Deadline.Milliseconds(), 10),
				},
			}
		},
		State: func(ctx context.Context, c *Job) (any, error) {
			o := api.get(ns, c.Name())
			state, _, _ := nested(o, "status", "state")
			return map[string]any{"exists": o != nil, "state": state}, nil
		},
		Foreign: func(context.Context, *Job) (string, error) { return string(mustJSON(api.get(ns, "foreign"))), nil },
		Cleanup: func(ctx context.Context, c *Job) error {
			err := admin(api).Delete(ctx, c.Name(), metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		},
	}
}

func admin(api *fakeAPI) dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(api.config()).Resource(workflows).Namespace(ns)
}
