package slurmconf

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A link is as good as what it leads to; a hard link has its file's owner.
func TestALinkToAnothersConfigurationIsRefused(t *testing.T) {
	for name, link := range map[string]func(old, new string) error{"hard": os.Link, "symbolic": os.Symlink} {
		theirs := writeConfig(t, withSlurmConf)
		path := filepath.Join(filepath.Dir(theirs), "link.toml")
		require.NoError(t, link(theirs, path))
		_, err := Load(path)
		require.NoError(t, err, name)
		chownOrSkip(t, theirs)
		_, err = Load(path)
		require.ErrorContains(t, err, "is owned by uid 12345", name)
	}
}

// Somebody who may change the directory swaps the file between a check and its use: what
// is read is what was checked.
func TestAConfigurationThatIsSwappedIsReadAsItWasChecked(t *testing.T) {
	path := writeConfig(t, withSlurmConf+"cluster = 'ours'\n")
	theirs := path + ".theirs"
	require.NoError(t, os.WriteFile(theirs, []byte("cluster = 'theirs'\n"), 0o644))
	chownOrSkip(t, theirs)
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		var failed error
		for {
			select {
			case <-stop:
				stopped <- failed
				return
			default:
				failed = errors.Join(failed, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, theirs, unix.RENAME_EXCHANGE))
			}
		}
	}()
	ours, refused := 0, 0
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		c, err := Load(path)
		if err != nil {
			require.ErrorContains(t, err, "is owned by uid 12345")
			refused++
			continue
		}
		ours++
		require.Equal(t, "ours", c.Cluster)
	}
	close(stop)
	require.NoError(t, <-stopped)
	assert.Positive(t, ours)
	assert.Positive(t, refused, "it was never swapped: the test shows nothing")
}
