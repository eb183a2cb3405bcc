package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/balance"
)

// Command is the first argument by which Berth's program becomes a relay; the
// ports follow, as "80/tcp".
const Command = "relay"

// Order says where new connections go: all of it, each time.
type Order struct {
	// ID is returned in the reports that follow. Whoever orders gives each order
	// another one.
	ID      uint64  `json:"id"`
	Routing Routing `json:"routing"`
}

// Routing is a [balance.Routing] on its way.
type Routing struct {
	Policy   balance.Policy `json:"policy,omitempty"`
	Shares   map[string]int `json:"shares,omitempty"`
	HeldMost int            `json:"heldMost,omitempty"` // as [balance.Hold]'s Limit
	HeldFor  time.Duration  `json:"heldFor,omitempty"`  // nanoseconds
	Backends []Backend      `json:"backends,omitempty"` // that are given new connections
}

// Backend is a replica that is given new connections.
type Backend struct {
	ID    string     `json:"id"`
	Group string     `json:"group,omitempty"`
	IP    netip.Addr `json:"ip"` // in a network that the relay is in
}

// Report is how a relay stands.
type Report struct {
	ID uint64 `json:"id"` // of the last order that was carried out; 0: none was
	// Trouble says what the relay cannot do; empty: nothing.
	Trouble  string    `json:"trouble,omitempty"`
	Waiting  int       `json:"waiting,omitempty"` // clients for whom there is no replica
	Carries  uint64    `json:"carries,omitempty"` // connections and sessions that it has ever carried
	Backends []Carried `json:"backends,omitempty"`
}

// Carried is a replica as the relay knows it.
type Carried struct {
	ID     string `json:"id"`
	Routed bool   `json:"routed,omitempty"` // it is given new connections
	Open   int    `json:"open,omitempty"`   // connections and sessions
}

// maxLine bounds a line of the protocol, in bytes: some thousand replicas.
const maxLine = 1 << 20

// Line is a value as a line of the protocol. The empty line before it ends one
// that somebody else has begun.
func Line(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(append([]byte{'\n'}, data...), '\n'), nil
}

// Lines takes a stream apart into the lines of the protocol. What is longer than a
// line may be is left out. It is an [io.Writer].
type Lines struct {
	// Each is called with each line that is not empty, which it must not keep.
	Each func(line []byte)

	rest    []byte
	tooLong bool
}

// Write takes the next part of the stream. It never fails.
func (l *Lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.keep(p)
			return n, nil
		}
		l.keep(p[:i])
		if line := bytes.TrimSpace(l.rest); !l.tooLong && len(line) > 0 {
			l.Each(line)
		}
		l.rest, l.tooLong = l.rest[:0], false
		p = p[i+1:]
	}
}

// keep keeps the part of a line that has no end yet.
func (l *Lines) keep(p []byte) {
	if len(l.rest)+len(p) > maxLine {
		l.rest, l.tooLong = nil, true
	}
	if !l.tooLong {
		l.rest = append(l.rest, p...)
	}
}

// ParseOrder reads an order.
func ParseOrder(line []byte) (Order, error) {
	var o Order
	if err := json.Unmarshal(line, &o); err != nil {
		return Order{}, fmt.Errorf("read an order: %w", err)
	}
	return o, nil
}

// ParseReport reads a report.
func ParseReport(line []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(line, &r); err != nil {
		return Report{}, fmt.Errorf("read a report: %w", err)
	}
	return r, nil
}

// balance is the routing in the balancer's words.
func (r *Routing) balance() balance.Routing {
	to := balance.Routing{Policy: r.Policy, Shares: r.Shares, Hold: balance.Hold{Limit: r.HeldMost, For: r.HeldFor}}
	for _, be := range r.Backends {
		to.Backends = append(to.Backends, balance.Backend{ID: be.ID, Group: be.Group, IP: be.IP, Routed: true})
	}
	return to
}

// frontends are what is listened at by the arguments that follow [Command].
func frontends(args []string) ([]balance.Frontend, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("no port to listen at is given: %s", usage)
	}
	var list []balance.Frontend
	for _, arg := range args {
		number, protocol, _ := strings.Cut(arg, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 || protocol != string(balance.TCP) && protocol != string(balance.UDP) {
			return nil, fmt.Errorf("%q is no port: %s", arg, usage)
		}
		list = append(list, balance.Frontend{Key: pool(), Protocol: balance.Protocol(protocol), Port: uint16(n), Target: uint16(n)})
	}
	return list, nil
}

const usage = "give ports as 80/tcp or 53/udp; this command is run by Berth in a container of its own"
