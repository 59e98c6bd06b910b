package slurm

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// Version is a release of Slurm; the zero value is none.
type Version struct{ Major, Minor, Micro int }

func (v Version) String() string { return fmt.Sprintf("%d.%02d.%d", v.Major, v.Minor, v.Micro) }

// AtLeast reports whether v is that release or a later one.
func (v Version) AtLeast(major, minor, micro int) bool {
	if v.Major != major {
		return v.Major > major
	}
	if v.Minor != minor {
		return v.Minor > minor
	}
	return v.Micro >= micro
}

// Version asks scontrol which Slurm is installed; slurmctld is not asked.
func (c Commands) Version(ctx context.Context) (Version, error) {
	out, err := c.run(ctx, "scontrol", "--version")
	if err != nil {
		return Version{}, err
	}
	// "slurm 24.11.5", from Debian "slurm-wlm 22.05.8".
	m := regexp.MustCompile(`^slurm\S* (\d+)\.(\d+)\.(\d+)`).FindStringSubmatch(out)
	if m == nil {
		return Version{}, fmt.Errorf("scontrol --version: cannot read %q", out)
	}
	var numbers [3]int
	for i := range numbers {
		numbers[i], _ = strconv.Atoi(m[i+1])
	}
	return Version{numbers[0], numbers[1], numbers[2]}, nil
}
