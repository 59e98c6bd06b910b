package dwssim

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// policy is what the two webhooks decide by.
type policy struct {
	// rulesetNamespace is where DWS looks its rules up; it is named when there are none.
	rulesetNamespace string
	hasRuleset       bool
}

var (
	desiredStatePath = field.NewPath("Spec").Child("DesiredState")
	statePath        = field.NewPath("Status").Child("State")
	driversPath      = field.NewPath("Status").Child("Drivers")
)

// mutateCreate registers the drivers of each directive and the first variables of the job's
// environment. A directive that is wrong is left for validateCreate to refuse, but a blank one
// is an error here already: errBlankDirective.
func (p policy) mutateCreate(w *Workflow) error {
	if w.Status.Env == nil {
		w.Status.Env = map[string]string{}
	}
	w.Status.Env["DW_WORKFLOW_NAME"] = w.Name
	w.Status.Env["DW_WORKFLOW_NAMESPACE"] = w.Namespace
	if !p.hasRuleset {
		return nil
	}
	var drivers []Driver
	for index, text := range w.Spec.DWDirectives {
		parsed, err := parseDirective(text)
		if errors.Is(err, errBlankDirective) {
			return err
		}
		if err != nil {
			return nil
		}
		rule := rules[parsed.command]
		for _, state := range rule.watchStates {
			drivers = append(drivers, Driver{DriverID: rule.driverID, DWDIndex: index, WatchState: state, Status: Pending})
		}
	}
	w.Status.Drivers = drivers
	return nil
}

// validateCreate refuses a Workflow that DWS could not begin with.
func (p policy) validateCreate(w *Workflow) error {
	if w.Spec.DesiredState != Proposal {
		return field.Invalid(desiredStatePath, w.Spec.DesiredState, "desired state must start in Proposal")
	}
	if w.Spec.Hurry {
		return field.Forbidden(field.NewPath("Spec").Child("Hurry"), "the hurry flag may not be set on creation")
	}
	if w.Status.State != "" {
		return field.Forbidden(statePath, "the status state may not be set on creation")
	}
	if len(w.Spec.DWDirectives) > 0 && !p.hasRuleset {
		return fmt.Errorf("unable to find ruleset in namespace: %s", p.rulesetNamespace)
	}
	_, err := checkDirectives(w.Spec.DWDirectives)
	return err
}

// validateUpdate refuses a change that breaks the state machine's rules. It sees the writes of
// DWS's own controller and of drivers too.
func (p policy) validateUpdate(old, w *Workflow) error {
	if w.Spec.Hurry && w.Spec.DesiredState != Teardown {
		return field.Invalid(field.NewPath("Spec").Child("Hurry"), true, "the hurry flag may be set only in Teardown")
	}
	if err := checkImmutable(old, w); err != nil {
		return err
	}
	if err := checkDrivers(old, w); err != nil {
		return err
	}
	return checkTransition(old, w)
}

func checkImmutable(old, w *Workflow) error {
	const detail = "field is immutable"
	spec := field.NewPath("Spec")
	switch {
	case old.Spec.WLMID != w.Spec.WLMID:
		return field.Forbidden(spec.Child("WLMID"), detail)
	case old.Spec.JobID != w.Spec.JobID:
		return field.Forbidden(spec.Child("JobID"), detail)
	case old.Spec.UserID != w.Spec.UserID:
		return field.Forbidden(spec.Child("UserID"), detail)
	case old.Spec.GroupID != w.Spec.GroupID:
		return field.Forbidden(spec.Child("GroupID"), detail)
	case !slices.Equal(old.Spec.DWDirectives, w.Spec.DWDirectives):
		return field.Forbidden(spec.Child("DWDirectives"), detail)
	}
	return nil
}

// errDriverAdded is a new entry in the list of drivers. The real webhook does not refuse it: it
// panics on it.
var errDriverAdded = fmt.Errorf("driver entry added: %w", errPanic)

// checkDrivers lets drivers work on the entries of the state that the Workflow is in, and on the
// length of the list. Entries are compared by their place in the list.
func checkDrivers(old, w *Workflow) error {
	if old.Status.State == "" {
		return nil // until the controller's first write of the state
	}
	for i, driver := range w.Status.Drivers {
		if i >= len(old.Status.Drivers) {
			return errDriverAdded
		}
		refuse := func(why string) error { return field.InternalError(driversPath.Index(i), errors.New(why)) }
		before := old.Status.Drivers[i]
		switch {
		case driver.WatchState != old.Status.State:
			if !sameDriver(before, driver) {
				return refuse("driver entry for non-current state cannot be changed")
			}
		case driver.Completed && driver.Status != Completed:
			return refuse("driver cannot be completed without status=Completed")
		case driver.Completed && driver.Error != "":
			return refuse("driver cannot be completed when error is present")
		case before.Completed && !driver.Completed:
			return refuse("driver cannot change from completed state")
		}
	}
	return nil
}

// sameDriver compares times by the instant: their zone and monotonic part may differ.
func sameDriver(a, b Driver) bool {
	if !a.CompleteTime.Equal(b.CompleteTime) {
		return false
	}
	a.CompleteTime, b.CompleteTime = nil, nil
	return reflect.DeepEqual(a, b)
}

// checkTransition judges the desired state against the state the Workflow is in. A desired state
// that the controller has not taken up yet can be replaced, Teardown too.
func checkTransition(old, w *Workflow) error {
	desired := w.Spec.DesiredState
	if desired == Teardown || desired == old.Status.State || desired == Proposal && old.Status.State == "" {
		return nil
	}
	current := slices.Index(States, old.Status.State) // -1 before the controller's first write
	switch next := slices.Index(States, desired); {
	case next < current:
		return field.Invalid(desiredStatePath, desired, "DesiredState cannot progress backwards")
	case next > current+1:
		return field.Invalid(desiredStatePath, desired, "states cannot be skipped")
	case !old.Status.Ready:
		return field.Invalid(statePath, old.Status.State, "current desired state not yet achieved")
	}
	return nil
}
