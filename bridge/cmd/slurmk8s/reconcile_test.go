package main

import (
	"errors"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
)

func TestTheStatusIsThatOfWhatShouldBeGone(t *testing.T) {
	var lines []string
	log := logrus.New()
	log.SetFormatter(formatter(func(e *logrus.Entry) { lines = append(lines, e.Message) }))
	report := func(err error) int {
		return report([]reconcile.Result{{Object: duty.Object{Name: "service jobs/web"}, Err: err}}, false, false, logrus.NewEntry(log))
	}
	assert.Equal(t, exitOK, report(nil))
	assert.Equal(t, exitOK, report(duty.ErrChanged))
	assert.Equal(t, exitFailed, report(errors.New("forbidden")))
	assert.Equal(t, []string{"service jobs/web: removed", "service jobs/web: left: it has changed since it was listed", "service jobs/web: left: forbidden"}, lines)
}

type formatter func(*logrus.Entry)

func (f formatter) Format(e *logrus.Entry) ([]byte, error) {
	f(e)
	return nil, nil
}
