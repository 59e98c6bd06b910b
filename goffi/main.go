// Package main is libslurmk8s.so, the Go side of slurmk8s.h: it turns C fields
// into wire.Fields and back, and stops panics. It knows nothing about any hook.
package main

/*
#cgo CFLAGS: -Wall -Wextra
#cgo LDFLAGS: -Wl,-z,relro -Wl,-z,now
#include <stdlib.h>
#include <string.h>
#include "slurmk8s.h"

// Not from entry.h: it also declares what cgo declares itself in its export header.
unsigned long long slurmk8s_entry_soft_nofile(void);
void slurmk8s_entry_set_version(const char *text);
void slurmk8s_entry_syslog(const char *line);
void *slurmk8s_entry_malloc(size_t size);
*/
import "C"

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// version is set by the linker: -X main.version=0.1.0
var version = "0.0.0-unset"

// maxPanicLine keeps a panic in one syslog datagram.
const maxPanicLine = 1800

func init() {
	restoreSoftNofile()
	// A hook is a few requests one after another: more threads would only cost
	// the host process memory.
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	text := C.CString(version)
	C.slurmk8s_entry_set_version(text)
	C.free(unsafe.Pointer(text))
}

// restoreSoftNofile undoes what package syscall did a moment ago: it raises the
// soft limit to the hard one for the whole process, and so for all that the
// host execs later. Between the two, on a thread of Go, the host may see the
// raised limit; slurmk8s_version() and slurmk8s_hook() return only after this.
func restoreSoftNofile() {
	soft := uint64(C.slurmk8s_entry_soft_nofile())
	var now syscall.Rlimit
	if soft == 0 || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now) != nil || now.Cur == soft {
		return
	}
	now.Cur = soft
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now) // lowering cannot fail
}

func main() {} // required by -buildmode=c-shared, never called

//export slurmk8sGoReady
func slurmk8sGoReady() {}

//export slurmk8sGoHook
func slurmk8sGoHook(name *C.char, fields **C.char, reply ***C.char) (code C.int) {
	defer func() {
		if cause := recover(); cause != nil {
			logPanic(C.GoString(name), cause)
			code = C.SLURMK8S_EPANIC
		}
	}()
	outcome, answer := runHook(context.Background(), C.GoString(name), goFields(fields))
	block, err := cFields(answer)
	if err != nil {
		return C.SLURMK8S_ENOMEM
	}
	*reply = block
	return C.int(outcome)
}

// goFields copies a NULL-terminated array of "KEY=VALUE", which entry.c checked.
func goFields(fields **C.char) wire.Fields {
	request := wire.Fields{}
	for p := fields; *p != nil; p = (**C.char)(unsafe.Add(unsafe.Pointer(p), unsafe.Sizeof(*p))) {
		key, value, _ := strings.Cut(C.GoString(*p), "=")
		request[key] = value
	}
	return request
}

// cFields makes the reply: one malloc'd block that holds the vector and, behind
// it, the strings in the order of their keys. nil when there is no field.
func cFields(answer wire.Fields) (**C.char, error) {
	if len(answer) == 0 {
		return nil, nil
	}
	var text strings.Builder
	starts := make([]int, 0, len(answer))
	for _, key := range slices.Sorted(maps.Keys(answer)) {
		starts = append(starts, text.Len())
		// A NUL would cut the value short where nobody sees it.
		text.WriteString(strings.ReplaceAll(key+"="+answer[key], "\x00", " "))
		text.WriteByte(0)
	}
	vector := (len(starts) + 1) * int(unsafe.Sizeof((*C.char)(nil)))
	block := C.slurmk8s_entry_malloc(C.size_t(vector + text.Len()))
	if block == nil {
		return nil, syscall.ENOMEM
	}
	pointers := unsafe.Slice((**C.char)(block), len(starts)+1)
	for i, start := range starts {
		pointers[i] = (*C.char)(unsafe.Add(block, vector+start))
	}
	pointers[len(starts)] = nil
	copy(unsafe.Slice((*byte)(unsafe.Add(block, vector)), text.Len()), text.String())
	return (**C.char)(block), nil
}

// logPanic must not panic itself: it runs in the deferred function that stops one.
func logPanic(name string, cause any) {
	line := fmt.Sprintf("hook %s: panic: %v: %s", name, cause, debug.Stack())
	line = strings.Join(strings.Fields(line), " ")
	if len(line) > maxPanicLine {
		line = line[:maxPanicLine]
	}
	text := C.CString(line)
	C.slurmk8s_entry_syslog(text)
	C.free(unsafe.Pointer(text))
}
