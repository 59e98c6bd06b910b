package dwssim

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// plan is one step of the machine. DWS and its drivers are separate programs that watch each
// other's writes; so a step is one write, and watchers see what they would see with the real
// ones: first the new state, then the drivers' progress, then ready.
type plan struct {
	// write is the changed Workflow; nil means that there is nothing to do now.
	write *Workflow
	// createComputes and deleteComputes come before the write.
	createComputes bool
	deleteComputes bool
	// wake is when to look again though nothing changed; the zero time means never.
	wake time.Time
}

// next is the whole controller as a function: no clock, no API. With nnf, the drivers of NNF are left
// to it.
func next(w *Workflow, now time.Time, nnf bool) plan {
	if w.DeletionTimestamp != nil {
		return finish(w)
	}
	if !slices.Contains(w.Finalizers, Finalizer) {
		changed := w.deepCopy()
		changed.Finalizers = append(changed.Finalizers, Finalizer)
		return plan{write: changed}
	}
	if w.Status.State != w.Spec.DesiredState {
		return enter(w, now)
	}
	if w.Status.State == Proposal && w.Status.Computes == (ObjectReference{}) {
		changed := w.deepCopy()
		changed.Status.Computes = ObjectReference{Kind: "Computes", Namespace: w.Namespace, Name: w.Name}
		return plan{write: changed, createComputes: true}
	}
	if w.Status.Ready {
		return plan{} // whatever drivers say from now on
	}
	changed, wake := drive(w, now, nnf)
	if changed != nil {
		return plan{write: changed}
	}
	return plan{write: judge(w, now), wake: wake}
}

// finish lets a deleted Workflow go when all others have let go.
func finish(w *Workflow) plan {
	if !slices.Equal(w.Finalizers, []string{Finalizer}) {
		return plan{}
	}
	gone := w.deepCopy()
	gone.Finalizers = nil
	return plan{write: gone, deleteComputes: true}
}

// enter begins the desired state.
func enter(w *Workflow, now time.Time) plan {
	changed := w.deepCopy()
	if w.Status.State != "" {
		changed.Spec.ForceReady = false
	}
	changed.Status.State = w.Spec.DesiredState
	changed.Status.Ready = false
	changed.Status.Status = DriverWait
	changed.Status.Message = ""
	changed.Status.DesiredStateChange = microTime(now)
	return plan{write: changed}
}

// persistent tells which persistent instances exist, or no longer do, once the Workflow's
// Teardown is done.
func persistent(w *Workflow) map[string]bool {
	exists := map[string]bool{}
	if w.Status.State != Teardown {
		return exists
	}
	passed := true
	for _, driver := range w.Status.Drivers {
		passed = passed && driver.Completed
	}
	for _, text := range w.Spec.DWDirectives {
		parsed, err := parseDirective(text)
		if err != nil {
			continue // admission let no such directive in
		}
		switch {
		case parsed.command == "create_persistent" && passed:
			exists[parsed.args["name"]] = true
		case parsed.command == "destroy_persistent" && tornDown(w):
			exists[parsed.args["name"]] = false
		}
	}
	return exists
}

// tornDown reports that all drivers have completed Teardown.
func tornDown(w *Workflow) bool {
	return !slices.ContainsFunc(w.Status.Drivers, func(d Driver) bool { return d.WatchState == Teardown && !d.Completed })
}

// judge sums the current state's drivers up: the worst status counts, and of equal ones the last
// message. It returns nil if the status says so already.
func judge(w *Workflow, now time.Time) *Workflow {
	changed := w.deepCopy()
	status := &changed.Status
	status.Ready, status.Status, status.Message = true, Completed, ""
	for _, driver := range w.Status.Drivers {
		if driver.WatchState != w.Status.State {
			continue
		}
		status.Ready = status.Ready && driver.Completed
		worse := badness(driver.Status) - badness(status.Status)
		if worse > 0 {
			status.Status, status.Message = summary(driver.Status), ""
		}
		if worse >= 0 && driver.Message != "" {
			status.Message = fmt.Sprintf("DW Directive %d: %s", driver.DWDIndex, driver.Message)
		}
	}
	if w.Spec.ForceReady {
		status.Ready, status.Status, status.Message = true, Completed, "Forced Ready"
	}
	if status.Ready && !w.Status.Ready {
		status.ReadyChange = microTime(now)
		if status.DesiredStateChange != nil {
			status.ElapsedTimeLastState = now.Sub(status.DesiredStateChange.Time).Round(time.Microsecond).String()
		}
	}
	if status.Ready == w.Status.Ready && status.Status == w.Status.Status && status.Message == w.Status.Message {
		return nil
	}
	return changed
}

// badness ranks a driver's status: the worst one is the Workflow's.
func badness(driverStatus string) int {
	switch driverStatus {
	case Completed:
		return 0
	case TransientCondition:
		return 2
	case Error:
		return 3
	}
	return 1
}

// summary is a driver's status as a Workflow's: all kinds of waiting are one.
func summary(driverStatus string) string {
	if badness(driverStatus) == 1 {
		return DriverWait
	}
	return driverStatus
}

// drive does the drivers' work for the current state. It returns nil if there is none now, and
// when there will be some.
func drive(w *Workflow, now time.Time, nnf bool) (*Workflow, time.Time) {
	changed := w.deepCopy()
	var wake time.Time
	for i := range changed.Status.Drivers {
		driver := &changed.Status.Drivers[i]
		if driver.WatchState != w.Status.State || driver.DWDIndex >= len(w.Spec.DWDirectives) || nnf && driver.DriverID == "nnf" {
			continue
		}
		parsed, err := parseDirective(w.Spec.DWDirectives[driver.DWDIndex])
		if err != nil {
			continue // admission let no such directive in
		}
		due := entered(w).Add(parsed.delay(w.Status.State))
		if at := work(parsed, driver, due, now); !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
		if driver.Completed {
			maps.Copy(changed.Status.Env, parsed.env(w, driver.DWDIndex, w.Status.State))
		}
	}
	if reflect.DeepEqual(changed.Status.Drivers, w.Status.Drivers) && maps.Equal(changed.Status.Env, w.Status.Env) {
		return nil, wake
	}
	return changed, wake
}

// work moves one driver on. An entry that somebody else has changed is left as it is; so a test
// can play the driver. It returns when to look again, if that is known.
func work(d *directive, driver *Driver, due, now time.Time) time.Time {
	recovers := driver.Status == TransientCondition && d.args["delay"] != ""
	if driver.Completed || (driver.Status != Pending && !recovers) {
		return time.Time{}
	}
	action := d.args["action"]
	if _, testerCommand := d.args["action"]; !testerCommand {
		action = "complete" // a provider's command always succeeds
	}
	if action != "complete" && action != "error" {
		return time.Time{} // as of wait, the test driver makes nothing of a word that it does not know
	}
	status := severityStatus(d.args["severity"])
	// Major's delay is how long the condition lasts; all others' is how long it takes to come.
	transientNow := action == "error" && status == TransientCondition && driver.Status == Pending
	if now.Before(due) && !transientNow {
		return due
	}
	if action == "complete" || recovers {
		driver.Status, driver.Completed, driver.CompleteTime = Completed, true, microTime(now)
		driver.Message, driver.Error = "", ""
		return time.Time{}
	}
	driver.Status, driver.Message, driver.Error = status, "Reported error: "+d.args["message"], d.userText()
	switch {
	case status == "":
		driver.Error = "unknown severity: " + d.args["severity"]
		driver.Status, driver.Message = Error, "Internal error: "+driver.Error
	case status == TransientCondition && d.args["delay"] != "":
		return due
	}
	return time.Time{}
}

// severityStatus is the driver's status that goes with the severity of an error; empty if DWS does
// not know it.
func severityStatus(severity string) string {
	switch strings.ToLower(severity) {
	case "", "minor":
		return Running
	case "major":
		return TransientCondition
	case "fatal":
		return Error
	}
	return ""
}

// entered is when the current state began.
func entered(w *Workflow) time.Time {
	if w.Status.DesiredStateChange == nil {
		return w.CreationTimestamp.Time
	}
	return w.Status.DesiredStateChange.Time
}

// microTime is what the API keeps of a time; more would never compare equal after a round trip.
func microTime(t time.Time) *metav1.MicroTime {
	micro := metav1.NewMicroTime(t.Truncate(time.Microsecond))
	return &micro
}
