// Package logging logs to the journal or a file, never to standard output or error:
// in a hook these belong to Slurm.
package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// New returns a logger and its file, to be closed after the last line.
func New(config *slurmconf.Config) (*logrus.Logger, io.Closer, error) {
	cfg := config.Log
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	level, err := logrus.ParseLevel(cfg.Level)
	if err != nil {
		return nil, nil, fmt.Errorf("log level %q: %w", cfg.Level, err)
	}
	logger.SetLevel(level)
	logger.AddHook(bounded{})
	if cfg.File == "" {
		logger.AddHook(toJournal{})
		return logger, io.NopCloser(nil), nil
	}
	// One write a line, appended: the hooks of many jobs share the file.
	f, err := open(cfg.File, config.SlurmConf)
	if err != nil { // no job fails for its log
		logger.AddHook(toJournal{})
		logger.Errorf("log file: %v: logging to the journal", err)
		return logger, io.NopCloser(nil), nil
	}
	logger.SetOutput(&lossy{file: f})
	logger.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00"})
	return logger, f, nil
}

// open opens a log, or makes it. Who may write in its directory could have put something
// else there: a FIFO that they read, or a second name of a file of root's.
func open(path, slurmConf string) (*os.File, error) {
	const mode = os.O_WRONLY | os.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(path, mode, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.OpenFile(path, mode|os.O_CREATE|os.O_EXCL, 0o640); err == nil {
			giveToSlurm(f, slurmConf)
		} else if errors.Is(err, fs.ErrExist) { // another hook made it just now
			f, err = os.OpenFile(path, mode, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	var info unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &info)
	kind := info.Mode & unix.S_IFMT
	if err == nil && (kind == unix.S_IFIFO || kind == unix.S_IFREG && info.Nlink > 1) {
		err = fmt.Errorf("%s is a FIFO, or has another name: remove it", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// giveToSlurm makes a new log SlurmUser's. Root writes to it whoever has it; the hooks of
// slurmctld could not write to root's.
func giveToSlurm(f *os.File, slurmConf string) {
	if os.Geteuid() != 0 {
		return
	}
	if account, err := users.SlurmUser(context.Background(), slurmConf); err == nil {
		_ = f.Chown(int(account.UID), int(account.GID))
	}
}

// maxLine bounds a line of the log: what Kubernetes answers may be of any length.
const maxLine = 8 << 10

// bounded cuts a message to maxLine. It comes before what writes it.
type bounded struct{}

func (bounded) Levels() []logrus.Level { return logrus.AllLevels }

func (bounded) Fire(e *logrus.Entry) error {
	if len(e.Message) > maxLine {
		e.Message = strings.ToValidUTF8(e.Message[:maxLine], "") + "..."
	}
	return nil
}

// lossy passes over an error, which logrus would write to standard error, but tells the
// journal of the first one.
type lossy struct {
	file *os.File
	told sync.Once
}

func (l *lossy) Write(p []byte) (int, error) {
	if _, err := l.file.Write(p); err != nil {
		l.told.Do(func() { send(fmt.Sprintf("log file: %v: lines are lost", err), journal.PriErr, map[string]string{}) })
	}
	return len(p), nil
}

// toJournal sends each line to the journal with its fields. A host without one
// loses the lines, not the hook.
type toJournal struct{}

func (toJournal) Levels() []logrus.Level { return logrus.AllLevels }

func (toJournal) Fire(e *logrus.Entry) error {
	fields := map[string]string{}
	for key, value := range e.Data {
		fields["SLURMK8S_"+upper(key)] = fmt.Sprint(value)
	}
	message := e.Message
	if job := e.Data["job"]; job != nil {
		message = fmt.Sprintf("job %v: %v: %s", job, e.Data["hook"], e.Message)
	}
	send(message, priority(e.Level), fields)
	return nil
}

// send writes to the journal, if the host has one.
func send(message string, priority journal.Priority, fields map[string]string) {
	if journal.Enabled() {
		fields["SYSLOG_IDENTIFIER"] = "slurmk8s"
		_ = journal.Send(wire.OneLine(message), priority, fields)
	}
}

func upper(key string) string {
	name := []byte(key)
	for i, b := range name {
		if 'a' <= b && b <= 'z' {
			name[i] = b - 'a' + 'A'
		}
	}
	return string(name)
}

func priority(level logrus.Level) journal.Priority {
	switch level {
	case logrus.DebugLevel, logrus.TraceLevel:
		return journal.PriDebug
	case logrus.InfoLevel:
		return journal.PriInfo
	case logrus.WarnLevel:
		return journal.PriWarning
	}
	return journal.PriErr
}
