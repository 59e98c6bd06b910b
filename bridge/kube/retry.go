package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// backoff is the one retry policy: about 50 ms, doubling to 5 s, until the
// context's deadline. A thousand hooks that lost the same API server do not come
// back in step, hence the jitter.
func backoff() wait.Backoff {
	return wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 1 << 30, Cap: 5 * time.Second}
}

// unauthorizedTries is how often a refused credential is tried again: a token
// file that was just rotated is read again, a wrong one stays wrong.
const unauthorizedTries = 3

// settling is for how long after an outage the API server may know neither its
// service accounts nor its roles: it answers before it has read them all.
const settling = 10 * time.Second

// noteAway remembers that the server was found away.
func (c *Client) noteAway() { c.away.Store(time.Now().UnixNano()) }

// noteWatchEnd is told of the end of a watch. One that ends before its time may have lost
// its server, which may be back before it is asked again.
func (c *Client) noteWatchEnd(opened time.Time) {
	if time.Since(opened) < watchLife-time.Second {
		c.noteAway()
	}
}

// starting reports that the server was away a moment ago.
func (c *Client) starting() bool {
	away := c.away.Load()
	return away != 0 && time.Since(time.Unix(0, away)) < settling
}

// hastyTries is how often a hasty client asks a server that answers, but not with
// what was asked for: a webhook that is down stays so for a while.
const hastyTries = 2

// Do runs one API request until it succeeds, fails for good, or ctx ends. Each
// attempt gets the request timeout. what names operation and object for the
// error, as "get workflow slurm/bb12". The request must be safe to repeat.
//
// The error keeps the API's own error in its chain, for Classify.
func (c *Client) Do(ctx context.Context, what string, request func(context.Context) error) error {
	policy := backoff()
	var last error
	for tries, refused := 1, 0; ; tries++ {
		var retryAfter time.Duration
		err := c.once(context.WithValue(ctx, retryAfterKey{}, &retryAfter), request)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && last != nil {
			err = last // an answer says more than that the next one was cut off
		}
		last = err
		again := false
		switch Classify(err) {
		case Transient:
			if !apierrors.IsTooManyRequests(err) { // that one is up, and knows what it refuses
				c.noteAway()
			}
			again = !c.hasty || tries < hastyTries && !errors.Is(err, syscall.ECONNREFUSED)
		case Unauthorized:
			refused++
			again = refused < unauthorizedTries || c.starting()
		case Denied:
			again = c.starting()
		}
		if !again {
			return &RequestError{What: what, Tries: tries, Err: err}
		}
		level := logrus.DebugLevel
		if tries == 1 {
			level = logrus.WarnLevel // the same again is no news
		}
		c.log.WithField("try", tries).Logf(level, "%s: %s", what, Reason(err))
		if Sleep(ctx, max(policy.Step(), min(max(retryAfter, asked(err)), backoff().Cap))) != nil {
			return &RequestError{What: what, Tries: tries, Err: err}
		}
	}
}

// asked is how long an overloaded API server wants to be left alone, in its own words.
// One that is only starting (503) says five seconds as well and is ready long before.
func asked(err error) time.Duration {
	seconds, ok := apierrors.SuggestsClientDelay(err)
	if !ok || !apierrors.IsTooManyRequests(err) {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// retryAfterKey is of the place in a request's context for the header of that name.
// The API server's queues (API priority and fairness) answer 429 with it and with
// nothing else in our words.
type retryAfterKey struct{}

func noteRetryAfter(ctx context.Context, resp *http.Response) {
	place, ok := ctx.Value(retryAfterKey{}).(*time.Duration)
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
	if ok && err == nil && resp.StatusCode == http.StatusTooManyRequests {
		*place = time.Duration(seconds) * time.Second
	}
}

// once gives one attempt its share of the time. A request that outlives it
// counts as unanswered, not as the caller's deadline.
func (c *Client) once(ctx context.Context, request func(context.Context) error) error {
	attempt, cancel := context.WithTimeout(ctx, c.requestTimeout)
	defer cancel()
	return request(attempt)
}

// Pauses is the retry policy for a caller that loops over reads itself. The zero
// value begins with the shortest pause.
type Pauses struct {
	// Cap is about the longest pause; 0: that of the policy.
	Cap    time.Duration
	policy wait.Backoff
	begun  bool
}

// Wait waits for the next pause; the error is ctx's.
func (p *Pauses) Wait(ctx context.Context) error {
	if !p.begun {
		p.policy, p.begun = backoff(), true
		p.policy.Cap = cmp.Or(p.Cap, p.policy.Cap)
	}
	return Sleep(ctx, p.policy.Step())
}

// Reset makes the next pause the shortest: there was progress.
func (p *Pauses) Reset() { p.begun = false }

// Sleep returns after d. The error is ctx's, if that ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RequestError is a request that failed for good: operation, object, cause.
type RequestError struct {
	What  string // "get workflow slurm/bb12"
	Group string // of the API, if the request was about Objects; "": Kubernetes' core
	Tries int
	Err   error
}

func (e *RequestError) Error() string {
	if e.Tries > 1 {
		return fmt.Sprintf("%s: %s (tried %d times)", e.What, Reason(e.Err), e.Tries)
	}
	return e.What + ": " + Reason(e.Err)
}

func (e *RequestError) Unwrap() error { return e.Err }

// Is reports whether err is of the class.
func Is(err error, class Class) bool {
	var r *RequestError
	return errors.As(err, &r) && Classify(r.Err) == class
}
