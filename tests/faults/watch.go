package faults

import (
	"bufio"
	"errors"
	"io"
	"net/http"
)

// endless is the number of events of a watch that is left alone.
const endless = -1

// halfEvent is what is left of an event when the server dies while sending it.
const halfEvent = `{"type":"MODIFIED","object":{"apiVersion":"dataworkflowservices.github.io/v1alpha7","kind":"Workf`

// watchUntil passes a watch on, as it comes, and after n events does what then
// does and ends the stream. An error answer (403, 410) is passed whole.
func (x *exchange) watchUntil(n int, then func()) {
	if x.watch(n, x.write) {
		then()
	}
}

// watch passes n events on through send; false: the upstream ended first.
func (x *exchange) watch(n int, send func([]byte)) bool {
	resp, err := x.upstream(x.r.Context())
	if err != nil {
		x.upstreamFailed(err)
	}
	defer resp.Body.Close()
	x.header(resp, -1)
	if resp.StatusCode != http.StatusOK {
		n = endless
	}
	// The client waits for the header, which must not wait for an event.
	if err := http.NewResponseController(x.w).Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
	events := bufio.NewReader(resp.Body)
	for sent := 0; sent != n; sent++ {
		event, err := events.ReadBytes('\n') // JSON: kube-apiserver ends each event with a newline
		if len(event) > 0 {
			send(event)
		}
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			x.upstreamFailed(err)
		}
	}
	return true
}

func (x *exchange) writeHalfEvent() { x.write([]byte(halfEvent)) }
