package service

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
	"slurmk8s.io/slurmk8s/bridge/job"
)

// Ports that the bridge chooses: first those that are neither a Linux host's own for
// outgoing connections nor, by default, Kubernetes's node ports; then what else a site
// allows.
const (
	firstChosen, lastChosen     = 20000, 29999
	firstNodePort, lastNodePort = 30000, 32767
)

// chosen is a port of this node that a job was given for one of its services: a line of a
// file ports.<id> next to the job's record.
type chosen struct {
	program Entry // that chose it
	port    string
	target  uint16
}

const chosenPrefix = "ports."

// ChoosePorts gives the ports with the target "auto" a free one of this node, which no
// other job that runs here was given, and which is allowed. Another step of the same job
// that asks for the same port gets the same one. The error is a *job.Refused if there is
// none.
func (d Records) ChoosePorts(ctx context.Context, id uint32, specs []Spec, allowed func(Spec, uint16) bool) error {
	var wanted []*Port
	var of []Spec
	for _, s := range specs {
		for i := range s.Ports {
			if s.Ports[i].Auto {
				wanted, of = append(wanted, &s.Ports[i]), append(of, s)
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return d.locked(ctx, true, func() error {
		others, mine, err := d.chosen(id)
		if err != nil {
			return err
		}
		for i, p := range wanted {
			service := of[i].Namespace + "/" + of[i].Name
			p.Target = mine.of(service, *p)
			if p.Target == 0 {
				p.Target = freePort(p.UDP, func(port uint16) bool { return !others[port] && !mine.has(port) && allowed(of[i], port) })
			}
			if p.Target == 0 {
				return job.Refusef("%s: this node has no free port that you may use", of[i].Object())
			}
			start, _ := startOf(os.Getpid())
			mine = append(mine, chosen{Entry{Service: service, pid: os.Getpid(), start: start}, p.key(), p.Target})
		}
		return d.writeChosen(id, mine)
	})
}

func (p Port) key() string { return fmt.Sprintf("%d/%s", p.Port, p.protocol()) }

type chosenPorts []chosen

// of is the port that a service of the job has; 0: none.
func (c chosenPorts) of(service string, p Port) uint16 {
	for _, other := range c {
		if other.program.Service == service && other.port == p.key() {
			return other.target
		}
	}
	return 0
}

func (c chosenPorts) has(port uint16) bool {
	for _, other := range c {
		if other.target == port {
			return true
		}
	}
	return false
}

// freePort is a port that nothing on this node has, by chance among those that are allowed;
// 0: there is none.
func freePort(udp bool, allowed func(uint16) bool) uint16 {
	const count = lastChosen - firstChosen + 1
	begin := rand.N(count)
	for i := range count {
		if port := uint16(firstChosen + (begin+i)%count); allowed(port) && isFree(udp, port) {
			return port
		}
	}
	for number := 1024; number <= 65535; number++ {
		if number >= firstNodePort && number <= lastNodePort {
			continue
		}
		if port := uint16(number); allowed(port) && isFree(udp, port) {
			return port
		}
	}
	return 0
}

func isFree(udp bool, port uint16) bool {
	at := ":" + strconv.Itoa(int(port))
	if udp {
		conn, err := net.ListenPacket("udp", at)
		return err == nil && conn.Close() == nil
	}
	listener, err := net.Listen("tcp", at)
	return err == nil && listener.Close() == nil
}

// chosen are the ports of the other jobs that run here, and those of this one. What jobs
// that are over left is removed. The caller has the lock.
func (d Records) chosen(id uint32) (others map[uint16]bool, mine chosenPorts, err error) {
	files, err := hostfile.Jobs(string(d), chosenPrefix)
	if err != nil {
		return nil, nil, err
	}
	others = map[uint16]bool{}
	for _, f := range files {
		ports, alive, err := d.readChosen(f.ID)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case !alive:
			err = d.writeChosen(f.ID, nil)
		case f.ID == id:
			mine = ports
		default:
			for _, p := range ports {
				others[p.target] = true
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return others, mine, nil
}

// readChosen also tells whether a program of the job runs here.
func (d Records) readChosen(id uint32) (ports chosenPorts, alive bool, err error) {
	text, err := hostfile.Read(hostfile.OfJob(string(d), chosenPrefix, id))
	if err != nil {
		return nil, false, fmt.Errorf("ports of job %d: %w", id, err)
	}
	entries, err := d.read(id)
	if err != nil {
		return nil, false, err
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 5 {
			continue // torn by a power failure
		}
		pid, _ := strconv.Atoi(words[0])
		target, _ := strconv.ParseUint(words[4], 10, 16)
		p := chosen{Entry{Service: words[2], pid: pid, start: words[1]}, words[3], uint16(target)}
		ports, entries = append(ports, p), append(entries, p.program)
	}
	for _, e := range entries {
		alive = alive || e.alive()
	}
	return ports, alive, nil
}

// writeChosen replaces the job's ports; without any the file is removed.
func (d Records) writeChosen(id uint32, ports chosenPorts) error {
	path := hostfile.OfJob(string(d), chosenPrefix, id)
	if len(ports) == 0 {
		return hostfile.Remove(path)
	}
	var text strings.Builder
	for _, p := range ports {
		fmt.Fprintln(&text, p.program.pid, p.program.start, p.program.Service, p.port, p.target)
	}
	if err := hostfile.Write(path, text.String(), 0o600); err != nil {
		return fmt.Errorf("record the job's ports: %w", err)
	}
	return nil
}
