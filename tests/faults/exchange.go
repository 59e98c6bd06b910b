package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// executeTimeout bounds a request whose client is not to be waited for.
	executeTimeout = 10 * time.Second
	// trickleInterval makes the smallest answer take longer than any deadline.
	trickleInterval = 50 * time.Millisecond
)

// exchange is one request and its answer, in the hands of a fault.
type exchange struct {
	p    *Proxy
	w    http.ResponseWriter
	r    *http.Request
	req  Request
	body []byte
}

// upstream sends the request on, unchanged but for who asks.
func (x *exchange) upstream(ctx context.Context) (*http.Response, error) {
	out := x.r.Clone(ctx)
	out.RequestURI = ""
	out.URL = &url.URL{Scheme: x.p.target.Scheme, Host: x.p.target.Host, Path: x.r.URL.Path,
		RawPath: x.r.URL.RawPath, RawQuery: x.r.URL.RawQuery}
	out.Host = ""
	out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, int64(len(x.body)), nil
	if len(x.body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	for _, hop := range []string{"Authorization", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		out.Header.Del(hop)
	}
	return x.p.transport.RoundTrip(out)
}

// pass answers as the upstream does: a watch event by event, the rest at once.
func (x *exchange) pass() {
	if x.req.IsWatch() {
		x.watchUntil(endless, func() {})
		return
	}
	resp, body := x.fetch(x.r.Context())
	x.header(resp, len(body))
	x.write(body)
}

// fetch has the request executed and reads the whole answer.
func (x *exchange) fetch(ctx context.Context) (*http.Response, []byte) {
	resp, err := x.upstream(ctx)
	if err != nil {
		x.upstreamFailed(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		x.upstreamFailed(err)
	}
	return resp, body
}

// execute has the request take effect and keeps the answer to itself. The
// client's patience plays no part: the lost answer must be to a request that did
// take effect.
func (x *exchange) execute() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), executeTimeout)
	defer cancel()
	if !x.req.IsWatch() {
		x.fetch(ctx)
		return
	}
	resp, err := x.upstream(ctx) // a watch has taken effect when it is accepted
	if err != nil {
		x.upstreamFailed(err)
	}
	_ = resp.Body.Close()
}

// upstreamFailed ends an exchange that the real API server failed. Unless the
// client has left, that is a fault nobody asked for: the run proves nothing.
func (x *exchange) upstreamFailed(err error) {
	if x.r.Context().Err() == nil && !x.p.closed() {
		x.p.trouble(fmt.Errorf("request %s: upstream: %w", x.req, err))
	}
	panic(http.ErrAbortHandler)
}

// header starts the answer; length -1 is a stream.
func (x *exchange) header(resp *http.Response, length int) {
	h := x.w.Header()
	for k, v := range resp.Header {
		switch k {
		case "Connection", "Content-Length", "Transfer-Encoding":
		default:
			h[k] = v
		}
	}
	if length >= 0 && x.r.Method != http.MethodHead {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	x.w.WriteHeader(resp.StatusCode)
}

// write sends b at once; a client that has left ends the exchange.
func (x *exchange) write(b []byte) {
	if _, err := x.w.Write(b); err != nil {
		panic(http.ErrAbortHandler)
	}
	if err := http.NewResponseController(x.w).Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// reset closes the connection with a TCP RST, as a dying load balancer does. In
// HTTP/2 every other request of the connection dies with it.
func (x *exchange) reset() {
	if conn, ok := x.r.Context().Value(connKey{}).(*tls.Conn); ok {
		if tcp, ok := conn.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// hang keeps the client waiting until it leaves or the proxy is closed.
func (x *exchange) hang() {
	select {
	case <-x.r.Context().Done():
	case <-x.p.done:
	}
	panic(http.ErrAbortHandler)
}

// fail answers with the Status that kube-apiserver has for code.
func (x *exchange) fail(code int) {
	body := mustJSON(statusOf(x.req, code))
	x.header(&http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}}, len(body))
	x.write(body)
}

// tooMany is kube-apiserver's priority and fairness: plain text, no Status.
func (x *exchange) tooMany() {
	x.w.Header().Set("Retry-After", "1")
	http.Error(x.w, "Too many requests, please try again later.", http.StatusTooManyRequests)
}

// truncate announces the whole answer and sends half of it.
func (x *exchange) truncate() {
	if x.req.IsWatch() {
		x.watchUntil(0, func() { x.writeHalfEvent(); panic(http.ErrAbortHandler) })
		return
	}
	resp, body := x.fetch(x.r.Context())
	x.header(resp, len(body))
	x.write(body[:len(body)/2])
	panic(http.ErrAbortHandler)
}

// trickle sends the answer byte by byte: no read fails, none brings the end
// near, so only a deadline for the whole request helps.
func (x *exchange) trickle() {
	if x.req.IsWatch() {
		x.watch(endless, x.drip)
		return
	}
	resp, body := x.fetch(x.r.Context())
	x.header(resp, len(body))
	x.drip(body)
}

func (x *exchange) drip(b []byte) {
	tick := time.NewTicker(trickleInterval)
	defer tick.Stop()
	for i := range b {
		x.write(b[i : i+1])
		select {
		case <-tick.C:
		case <-x.r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-x.p.done:
			panic(http.ErrAbortHandler)
		}
	}
}
