// Package units stops and starts systemd units by D-Bus.
package units

import (
	"context"
	"fmt"
	"os"
	"strconv"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Manager is a connection to systemd.
type Manager struct{ conn *systemd.Conn }

// Open connects to the bus that listens on a socket: /run/dbus/system_bus_socket, or
// where a container has that of its host.
func Open(ctx context.Context, socket string) (*Manager, error) {
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) {
		bus, err := dbus.Dial("unix:path="+socket, dbus.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		if err := bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
			bus.Close()
			return nil, err
		}
		return bus, bus.Hello()
	})
	if err != nil {
		return nil, fmt.Errorf("systemd: %s: %w", socket, err)
	}
	return &Manager{conn}, nil
}

// Close ends the connection.
func (m *Manager) Close() { m.conn.Close() }

// Active reports whether a unit runs or is about to. A unit that systemd does not know
// is inactive.
func (m *Manager) Active(ctx context.Context, unit string) (bool, error) {
	state, err := m.conn.GetUnitPropertyContext(ctx, unit, "ActiveState")
	if err != nil {
		return false, fmt.Errorf("systemd: state of %s: %w", unit, err)
	}
	switch state.Value.Value() {
	case "active", "activating", "reloading":
		return true, nil
	}
	return false, nil
}

// Stop stops a unit and returns when it has stopped.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	return m.job(ctx, "stop", unit, m.conn.StopUnitContext)
}

// Start starts a unit and returns when systemd considers it started.
func (m *Manager) Start(ctx context.Context, unit string) error {
	return m.job(ctx, "start", unit, m.conn.StartUnitContext)
}

func (m *Manager) job(ctx context.Context, verb, unit string, begin func(context.Context, string, string, chan<- string) (int, error)) error {
	result := make(chan string, 1)
	if _, err := begin(ctx, unit, "replace", result); err != nil {
		return fmt.Errorf("systemd: %s %s: %w", verb, unit, err)
	}
	select {
	case got := <-result:
		if got != "done" {
			return fmt.Errorf("systemd: %s %s: %s: see \"systemctl status %s\"", verb, unit, got, unit)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("systemd: %s %s: did not end in time", verb, unit)
	}
}
