package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// findScript finds the script of an array's task. Slurm (24.11, seen) names a file after the
// task's own job id, but keeps one script for the whole array, under the array's.
func (c *call) findScript(ctx context.Context) error {
	dir, name := filepath.Split(c.job.ScriptPath)
	state, job := filepath.Split(filepath.Clean(dir))
	if job != fmt.Sprintf("job.%d", c.job.ID) {
		return nil
	}
	if _, err := os.Stat(c.job.ScriptPath); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	array, err := c.commands().Array(ctx, c.job.ID)
	if err != nil {
		return fmt.Errorf("find the script of the job's array: %w", err)
	}
	if array != 0 {
		// StateSaveLocation/hash.N/job.ID/script, N being the last digit of ID.
		c.job.ScriptPath = filepath.Join(filepath.Dir(filepath.Clean(state)),
			fmt.Sprintf("hash.%d", array%10), fmt.Sprintf("job.%d", array), name)
	}
	return nil
}

// removePaths takes away the directory that slurm_bb_paths had to make for a task
// of an array. One that Slurm made holds the script and is Slurm's to remove.
func (c *call) removePaths() {
	dir, name := filepath.Split(c.job.ScriptPath)
	if name != "script" || filepath.Base(filepath.Clean(dir)) != fmt.Sprintf("job.%d", c.job.ID) {
		return
	}
	if _, err := os.Stat(c.job.ScriptPath); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = os.Remove(filepath.Join(dir, "path"))
	_ = os.Remove(dir) // fails where anything else is in it
}
