package balance

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Protocol is a transport protocol.
type Protocol string

// The protocols that are balanced.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Key names a pool: a service of a stack.
type Key struct {
	Stack   string `json:"stack"`
	Service string `json:"service"`
}

// String reads "shop/web".
func (k Key) String() string { return k.Stack + "/" + k.Service }

// Frontend is one published port: where clients connect, and which port of which
// pool's replicas it stands for.
type Frontend struct {
	Key
	Protocol Protocol `json:"protocol"`
	// Host is the address of this machine to listen at. The zero Addr stands for
	// all addresses of both families, as for a port that Docker publishes;
	// 0.0.0.0 and :: for all addresses of their own family alone.
	Host netip.Addr `json:"host"`
	// Port is the port to listen at; 0 leaves the choice to the kernel, and the
	// status tells it. Two frontends of one pool with port 0 differ in another field.
	Port uint16 `json:"port"`
	// Target is the port of the replicas.
	Target uint16 `json:"target"`
}

// String reads "127.0.0.1:8080/tcp".
func (f Frontend) String() string {
	host := ""
	if f.Host.IsValid() {
		host = f.Host.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(f.Port))) + "/" + string(f.Protocol)
}

// Process is a process of this machine.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"` // its name, or the command line as far as it may be read
}

// FrontendStatus is a frontend as it is.
type FrontendStatus struct {
	Frontend
	// Bound is where it listens; not valid while it does not.
	Bound netip.AddrPort `json:"bound"`
	// Reason says why it does not listen. Empty when it does.
	Reason string `json:"reason,omitempty"`
	// Holder is the process that holds the port instead, where that can be told.
	Holder *Process `json:"holder,omitempty"`
	// Open counts its open connections and sessions, waiting ones included.
	Open int `json:"open"`
	// Full says that Open has reached [Config.MaxOpen]: new clients wait in the
	// kernel's queue (TCP), or their datagrams are dropped (UDP).
	Full bool `json:"full,omitempty"`
	// AcceptErrors counts the times that a client could not be accepted, for want
	// of file descriptors or memory: it was tried again.
	AcceptErrors uint64 `json:"acceptErrors,omitempty"`
}

// Listening says whether clients can connect.
func (s FrontendStatus) Listening() bool { return s.Bound.IsValid() }

// check says why a frontend cannot be listened at, whatever the machine.
func (f Frontend) check() error {
	switch {
	case f.Protocol != TCP && f.Protocol != UDP:
		return fmt.Errorf("protocol %q cannot be balanced: use tcp or udp, or publish the port directly", f.Protocol)
	case f.Target == 0:
		return fmt.Errorf("the target port is 0: name the port of the container")
	default:
		return nil
	}
}

// slot is what of a frontend makes its listener the same one: who it is for, and
// which port it stands for, may change under an open listener.
func (f Frontend) slot() Frontend {
	if f.Port == 0 {
		return f
	}
	return Frontend{Protocol: f.Protocol, Host: f.Host, Port: f.Port}
}

// network is the name by which package net knows where to listen.
func (f Frontend) network() string {
	switch {
	case !f.Host.IsValid():
		return string(f.Protocol)
	case f.Host.Is4():
		return string(f.Protocol) + "4"
	default:
		return string(f.Protocol) + "6"
	}
}

// address is where it listens, as package net takes it.
func (f Frontend) address() string {
	if !f.Host.IsValid() {
		return ":" + strconv.Itoa(int(f.Port))
	}
	return netip.AddrPortFrom(f.Host, f.Port).String()
}
