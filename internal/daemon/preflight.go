package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// preflight checks what would keep a declaration from being carried out, before
// it is accepted: names and ports that others hold, objects that must exist.
// An error has changed nothing.
func (d *Daemon) preflight(ctx context.Context, next *reconcile.Desired, obs *reconcile.Observed) error {
	plan := reconcile.Decide(next, obs, &reconcile.Memory{}, time.Now())
	var errs []error
	for _, h := range plan.Holds {
		object, _, _ := strings.Cut(string(h.Key), "/")
		if h.Kind == reconcile.HoldFailing && (object == "network" || object == "volume" || object == "image") {
			errs = append(errs, invalid("use "+object, h.Name, h.Reason))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if plan.Empty() {
		return nil
	}
	all, err := d.cfg.Engine.List(ctx, runtime.Filter{})
	if err != nil {
		return err
	}
	var own, others []runtime.Container
	for i := range all {
		if isOurs(&all[i], next) {
			own = append(own, all[i])
		} else {
			others = append(others, all[i])
		}
	}
	return errors.Join(namesTaken(next, others), d.portsTaken(next, own, others))
}

func isOurs(c *runtime.Container, d *reconcile.Desired) bool {
	if c.Labels[runtime.LabelComposeProject] != d.Stack.Name {
		return false
	}
	id, err := runtime.ParseIdentity(c.Labels)
	return d.Adopt || (err == nil && id.Owner == d.Owner)
}

// namesTaken names the containers of others that hold a name the stack needs.
func namesTaken(d *reconcile.Desired, others []runtime.Container) error {
	wanted := map[string]bool{}
	for i := range d.Stack.Services {
		svc := &d.Stack.Services[i]
		if st := d.Services[svc.Name]; st.Want != reconcile.WantRunning && st.Want != reconcile.WantCreated {
			continue
		}
		if svc.ContainerName != "" {
			wanted[svc.ContainerName] = true
			continue
		}
		for slot := 1; slot <= d.Replicas(svc); slot++ {
			wanted[runtime.ContainerName(d.Stack.Name, svc.Name, slot)] = true
		}
	}
	var errs []error
	for i := range others {
		c := &others[i]
		if !wanted[c.Name] {
			continue
		}
		why := "the name is held by a container that Berth did not create; remove or rename it"
		switch _, err := runtime.ParseIdentity(c.Labels); {
		case err == nil:
			why = "the container belongs to another installation of Berth (its owner label differs, as after the state folder was lost); run up --adopt to take it over"
		case c.Labels[runtime.LabelComposeProject] == d.Stack.Name:
			why = "the container was made by Docker Compose; run up --adopt to take it over, or docker compose down first"
		}
		errs = append(errs, &runtime.Error{Kind: runtime.KindConflict, Op: "create", Object: c.Name, Err: errors.New(why)})
	}
	return errors.Join(errs...)
}

// portsTaken names the host ports the stack would publish that a container of
// others, another stack's balancer, or on this machine a process, holds.
func (d *Daemon) portsTaken(next *reconcile.Desired, own, others []runtime.Container) error {
	held, starting := heldPorts(own)
	var errs []error
	for i := range next.Stack.Services {
		svc := &next.Stack.Services[i]
		if next.Services[svc.Name].Want != reconcile.WantRunning || next.Replicas(svc) == 0 || starting[svc.Name] {
			continue
		}
		for _, p := range svc.Spec.Ports {
			n, err := strconv.ParseUint(p.Published, 10, 16)
			if err != nil || n == 0 || held[portKey(uint16(n), p.Protocol)] {
				continue // a range, a port of the engine's choice, or ours already
			}
			if why := d.portTaken(next.Stack.Name, p, uint16(n), others); why != "" {
				errs = append(errs, &runtime.Error{Kind: runtime.KindConflict, Op: "publish", Object: fmt.Sprintf("port %d of service %s", n, svc.Name), Err: errors.New(why)})
			}
		}
	}
	return errors.Join(errs...)
}

// heldPorts are the host ports that a stack's own containers hold, and the
// services with a container on its way to run: the engine listens for it already,
// and its record has no port yet.
func heldPorts(own []runtime.Container) (held, starting map[string]bool) {
	held, starting = map[string]bool{}, map[string]bool{}
	for i := range own {
		c := &own[i]
		if id, err := runtime.ParseIdentity(c.Labels); err == nil && c.State == runtime.Created {
			starting[id.Service] = true
		}
		for _, p := range c.Ports {
			held[portKey(p.HostPort, p.Protocol)] = held[portKey(p.HostPort, p.Protocol)] || c.State.Alive()
		}
	}
	return held, starting
}

func portKey(port uint16, protocol string) string {
	if protocol == "" {
		protocol = "tcp"
	}
	return strconv.Itoa(int(port)) + "/" + protocol
}

// portTaken says who holds a host port that a stack would publish; empty: nobody
// but the stack itself.
func (d *Daemon) portTaken(stack string, p runtime.Port, port uint16, others []runtime.Container) string {
	switch holder := d.balancing.holds(port, p.Protocol); holder {
	case "":
	case stack:
		return ""
	default:
		return "stack " + holder + " publishes it already; choose another port"
	}
	for i := range others {
		c := &others[i]
		for _, b := range c.Ports {
			if c.State.Alive() && portKey(b.HostPort, b.Protocol) == portKey(port, p.Protocol) && overlap(p.HostIP, b.HostIP) {
				return "container " + c.Name + " publishes it already; stop that one or choose another port"
			}
		}
	}
	if !d.cfg.LocalEngine || portKey(port, p.Protocol) != portKey(port, "tcp") {
		return ""
	}
	l, err := net.Listen("tcp", net.JoinHostPort(p.HostIP, strconv.Itoa(int(port)))) // #nosec G102 -- the address the user asked for, closed at once
	if err != nil && strings.Contains(err.Error(), "address already in use") {
		return aProcess(port, err) + " listens on it already; stop it or choose another port"
	}
	if err == nil {
		_ = l.Close()
	}
	return ""
}

// aProcess names the process that holds a TCP port, as far as that can be told.
func aProcess(port uint16, err error) string {
	p := balance.HolderOf(balance.Frontend{Protocol: balance.TCP, Port: port}, err)
	if p == nil {
		return "a process of this machine"
	}
	return fmt.Sprintf("process %d (%s)", p.PID, p.Command)
}

// overlap reports whether two host addresses can meet on one port.
func overlap(a, b string) bool {
	return anyAddress(a) || anyAddress(b) || a == b
}

func anyAddress(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
