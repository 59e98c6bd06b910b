package slurmconf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// openRegular opens a regular file for reading. O_NONBLOCK keeps the open of a
// FIFO from waiting for a writer: a hook must not hang on a file's type.
func openRegular(path string) (*os.File, *syscall.Stat_t, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	st, err := statRegular(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

// statRegular is fstat, and an error for anything but a regular file. Owner and
// mode are those of the opened file, whatever its name points to by now.
func statRegular(f *os.File) (*syscall.Stat_t, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is not a regular file (%s)", info.Mode().Type())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("its owner cannot be determined on this system")
	}
	return st, nil
}

// readAtMost reads a file of at most maxBytes.
func readAtMost(f *os.File, maxBytes int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("is larger than %d KiB", maxBytes>>10)
	}
	return data, nil
}

// readRegular opens and reads a regular file of at most maxBytes.
func readRegular(path string, maxBytes int64) ([]byte, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, maxBytes)
}

// checkTrustedConfig refuses a configuration that somebody else could have
// written: it steers what the hooks do as root and as SlurmUser.
func checkTrustedConfig(path string, st *syscall.Stat_t) error {
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("is owned by uid %d, must be owned by root: run \"chown root %s\"", st.Uid, path)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("is writable by others (mode %04o): run \"chmod go-w %s\"", st.Mode&0o7777, path)
	}
	return nil
}

// CheckSecretFile is the rule for files with secrets, a kubeconfig for one: a
// regular file, owned by root or the effective uid, that group and others can
// neither read nor write. A caller that knows SlurmUser's uid gives it in
// alsoTrusted, so that root accepts a file of SlurmUser. The error is one line
// and holds the command that fixes it.
//
// It takes the opened file, not its name: what was checked is what is read. Open
// with O_NONBLOCK if the name might be a FIFO's.
func CheckSecretFile(f *os.File, alsoTrusted ...uint32) error {
	if err := checkSecret(f, alsoTrusted); err != nil {
		return errors.New(oneLine(f.Name() + ": " + err.Error()))
	}
	return nil
}

func checkSecret(f *os.File, alsoTrusted []uint32) error {
	st, err := statRegular(f)
	if err != nil {
		return err
	}
	euid := os.Geteuid()
	trusted := st.Uid == 0 || int(st.Uid) == euid
	for _, uid := range alsoTrusted {
		trusted = trusted || st.Uid == uid
	}
	if !trusted {
		return fmt.Errorf("holds a secret but is owned by uid %d: run \"chown %d %s\"", st.Uid, euid, f.Name())
	}
	if st.Mode&0o066 != 0 {
		return fmt.Errorf("holds a secret but is open to others (mode %04o): run \"chmod 600 %s\"",
			st.Mode&0o7777, f.Name())
	}
	return nil
}

// withoutPath takes the operation and the path off an *os.PathError; our own
// messages begin with the path already.
func withoutPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

const maxMessageBytes = 1000 // an error is one line for a person, whatever a file holds

// oneLine makes a message fit for one line of a log or a terminal: control and
// invisible characters are escaped, the length is bounded.
func oneLine(s string) string {
	var b strings.Builder
	for i, r := range s {
		if b.Len() > maxMessageBytes {
			b.WriteString("...")
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
