// Package faults shows that every hook keeps its word whatever the API server
// does (invariants 1, 3, 4 and 6 of the design).
//
// A Proxy stands between a hook and a real kube-apiserver, numbers the requests
// of the hook's run and can, at any of them, fail in one of the ways of Faults:
// reset the connection before or after the request took effect, never answer,
// answer 429, 500, 503, 409, 401 or 403, cut a body or a watch, or kill the
// hook. A Runner runs a Scenario once undisturbed, to learn its requests and its
// end state, and then once for each (request, fault): the hook must end within
// its deadline, say what happened in one line, change nothing foreign, and reach
// the reference's end state when it is run again, or when Slurm runs what comes
// after it; and after the job's end nothing of it may be left.
package faults
