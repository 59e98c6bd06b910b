package doctor

import (
	"encoding/json"
	"fmt"
	"io"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Print writes the report for a person. Each problem has a line that says what to do.
func Print(out io.Writer, results []Result) {
	width := 0
	count := map[Status]int{}
	for _, r := range results {
		width = max(width, len(r.Check))
		count[r.Status]++
	}
	for _, r := range results {
		fmt.Fprintf(out, "%-8s %-*s  %s\n", r.Status, width, r.Check, wire.OneLine(r.Found))
		if r.Do != "" {
			fmt.Fprintf(out, "%-8s %-*s  -> %s\n", "", width, "", wire.OneLine(r.Do))
		}
	}
	fmt.Fprintf(out, "doctor: %d failed, %d warnings, %d ok\n", count[Failed], count[Warning], count[OK])
}

// PrintJSON writes it for a program: {"status": ..., "checks": [...]}.
func PrintJSON(out io.Writer, results []Result) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Status Status   `json:"status"`
		Checks []Result `json:"checks"`
	}{Worst(results), results})
}
