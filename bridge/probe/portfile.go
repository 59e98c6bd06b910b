package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxPortFile bounds what is read of a file that says a port.
const maxPortFile = 1 << 20

// ReadPort returns the port that a file says, as soon as it says one, or why not when ctx ends.
// The file is looked for as in AwaitFile: call it as its owner.
func ReadPort(ctx context.Context, path, name string, tasks ...string) (uint16, error) {
	for {
		port, err := readPort(ctx, path, name, tasks)
		if err == nil {
			return port, nil
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(longPause): // it may be half written
		}
	}
}

func readPort(ctx context.Context, path, name string, tasks []string) (uint16, error) {
	file, err := awaitFile(ctx, path, tasks)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() { // it could hold us
		err = errors.New("not a plain file")
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxPortFile))
	if err == nil {
		var port uint16
		if port, err = portOf(string(text), name); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("%s: %w", path, err)
}

// portOf reads a number, or the scheduler file of dask, {"services": {"dashboard": 8787}}: in it
// the service of the port's name, else the dashboard.
func portOf(text, name string) (uint16, error) {
	number := strings.TrimSpace(text)
	if strings.HasPrefix(number, "{") {
		var scheduler struct {
			Services map[string]any `json:"services"`
		}
		if err := json.Unmarshal([]byte(text), &scheduler); err != nil {
			return 0, errors.New("not whole as JSON")
		}
		port, named := scheduler.Services[name]
		if !named {
			port = scheduler.Services["dashboard"]
		}
		if port == nil {
			return 0, errors.New("it has no services.dashboard")
		}
		number = fmt.Sprint(port)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return 0, errors.New("it says no port")
	}
	return uint16(port), nil
}
