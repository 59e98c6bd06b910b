package hostfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nobody is a user's process: what the shell says, and whether it succeeded.
func nobody(t *testing.T, script string) (string, bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// reachable is a directory that all may enter.
func reachable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	return dir
}

// A hook waits for who holds its lock: a user must not be able to.
func TestAUserCannotTakeALockNorWriteWhereFilesAre(t *testing.T) {
	dir := filepath.Join(reachable(t), "run")
	require.NoError(t, Make(dir))
	lock := filepath.Join(dir, ".lock")
	unlock, err := Lock(t.Context(), lock)
	require.NoError(t, err)
	unlock()
	for _, script := range []string{
		"flock -n " + lock + " true", "flock -n -s " + lock + " true", "exec 9<" + lock, "exec 9>>" + lock,
		"rm -f " + lock, "mv " + lock + " " + lock + ".old", "touch " + dir + "/job.12", "ln -s /etc/passwd " + dir + "/.new-job.12",
	} {
		said, did := nobody(t, script)
		assert.False(t, did, "%s: %s", script, said)
		assert.Contains(t, said, "ermission denied", script)
	}
	if said, did := nobody(t, "ls "+dir); !did {
		t.Fatalf("the directory cannot be reached at all, the test shows nothing: %s", said)
	}
}

func TestALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	require.NoError(t, os.WriteFile(victim, nil, 0o600))
	lock := filepath.Join(dir, ".lock")
	require.NoError(t, os.Symlink(victim, lock))
	_, err := Lock(t.Context(), lock)
	require.ErrorIs(t, err, syscall.ELOOP)
	_, err = Read(lock)
	require.ErrorIs(t, err, syscall.ELOOP)
	require.NoError(t, Write(lock, "text", 0o600), "it takes the link's place")
	text, err := Read(lock)
	require.NoError(t, err)
	assert.Equal(t, "text", text)
	text, err = Read(victim)
	require.NoError(t, err)
	assert.Empty(t, text)
}

func TestAFileOfAnotherUserIsNotRead(t *testing.T) {
	dir := reachable(t)
	path := filepath.Join(dir, "x")
	require.NoError(t, os.Chmod(dir, 0o777))
	said, did := nobody(t, "echo text >"+path)
	require.True(t, did, said)
	_, err := Read(path)
	require.EqualError(t, err, path+" is not a regular file of root's or this user's")
	require.NoError(t, syscall.Mkfifo(path+".fifo", 0o600))
	_, err = Read(path + ".fifo")
	require.EqualError(t, err, path+".fifo is not a regular file of root's or this user's")
}

// The directory above is open to all: a user puts one of their own in our directory's
// place.
func TestADirectoryThatAUserPutInOursPlaceIsRefused(t *testing.T) {
	open := reachable(t)
	require.NoError(t, os.Chmod(open, 0o777))
	dir := filepath.Join(open, "run")
	require.NoError(t, Make(dir))
	said, did := nobody(t, "mv "+dir+" "+dir+".old && mkdir -m 755 "+dir)
	require.True(t, did, said)
	require.ErrorContains(t, Make(dir), dir+" belongs to user 65534: run \"chown root "+dir+"\"")
	said, did = nobody(t, "rmdir "+dir+" && ln -s "+dir+".old "+dir)
	require.True(t, did, said)
	require.ErrorContains(t, Make(dir), dir+" is not a directory")
}
