//go:build slurmk8s_testhooks

package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// testHooks exist only in the library that goffi/test and lua/test build.
var testHooks = map[string]func(context.Context, wire.Fields) (wire.Code, wire.Fields){
	"test_echo":  testEcho,
	"test_panic": testPanic,
	"test_fatal": testFatal,
	"test_print": testPrint,
	"test_sleep": testSleep,
}

func runHook(ctx context.Context, name string, request wire.Fields) (wire.Code, wire.Fields) {
	if run, ok := testHooks[name]; ok {
		return run(ctx, request)
	}
	return hook.Run(ctx, name, request)
}

// testEcho answers the request itself, with the code of the field CODE.
func testEcho(_ context.Context, request wire.Fields) (wire.Code, wire.Fields) {
	code, _ := strconv.Atoi(request["CODE"])
	return wire.Code(code), request
}

func testPanic(context.Context, wire.Fields) (wire.Code, wire.Fields) {
	var fields wire.Fields
	fields["x"] = "assignment to a nil map"
	return wire.OK, nil
}

func testFatal(context.Context, wire.Fields) (wire.Code, wire.Fields) {
	klog.Fatal("klog.Fatal")
	return wire.OK, nil
}

func testSleep(_ context.Context, request wire.Fields) (wire.Code, wire.Fields) {
	ms, _ := strconv.Atoi(request["MS"])
	time.Sleep(time.Duration(ms) * time.Millisecond)
	return wire.OK, nil
}

// testPrint uses every logger that is linked in, and makes client-go complain.
func testPrint(ctx context.Context, _ wire.Fields) (wire.Code, wire.Fields) {
	const text = "this must not be seen"
	fmt.Println(text)
	fmt.Fprintln(os.Stderr, text)
	log.Print(text)
	slog.Error(text)
	logrus.Error(text)
	klog.Info(text)
	klog.Error(text)
	klog.ErrorS(errors.New(text), text)
	utilruntime.HandleError(errors.New(text))

	crashed := make(chan struct{})
	go func() {
		defer close(crashed)
		defer utilruntime.HandleCrash()
		panic(text)
	}()
	<-crashed

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Warning", `299 - "`+text+`"`)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100") // a lie: net/http complains on both sides
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("{"))
	}))
	defer server.Close()
	client, err := dynamic.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		return wire.Failed, wire.Fields{wire.KeyMessage: err.Error()}
	}
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	_, err = client.Resource(pods).Namespace("default").List(ctx, metav1.ListOptions{})
	if err == nil {
		return wire.Failed, wire.Fields{wire.KeyMessage: "the request should have failed"}
	}
	return wire.OK, nil
}
