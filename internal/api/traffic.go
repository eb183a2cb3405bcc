package api

import (
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Published is one port of a service at which the balancer is to listen.
type Published struct {
	Service  string `json:"service"`
	Protocol string `json:"protocol"`       // "tcp" or "udp"
	Host     string `json:"host,omitempty"` // address; empty: all of this machine's
	Port     uint16 `json:"port,omitempty"` // as asked for; 0: the kernel chooses
	Target   uint16 `json:"target"`         // of the replicas
	// Bound are the addresses at which clients reach it, as the engine tells those
	// of a port that it publishes itself; empty while nothing listens.
	Bound  []runtime.BoundPort `json:"bound,omitempty"`
	Reason string              `json:"reason,omitempty"` // why nothing listens
	Holder string              `json:"holder,omitempty"` // the process that holds the port instead: "nginx (process 812)"
	Open   int                 `json:"open"`             // connections and sessions, waiting ones included
	Full   bool                `json:"full,omitempty"`   // Open has reached its limit
}

// Traffic is what the balancer has done for a service since the daemon began.
type Traffic struct {
	Policy  string `json:"policy"`
	Routed  int    `json:"routed"`  // containers that take new connections
	Open    int    `json:"open"`    // connections and sessions
	Waiting int    `json:"waiting"` // clients that wait for a container now
	Held    uint64 `json:"held"`    // clients that ever waited for one
	Retries uint64 `json:"retries"` // connects that were tried on another container
	// Refused counts the clients that were turned away, by reason.
	Refused map[string]uint64 `json:"refused,omitempty"`
	Flow                      // of all its containers, former ones included
	// Backends are the containers that are routed to, or have open connections.
	Backends []Backend `json:"backends"`
}

// Backend is one container to which the balancer carries connections.
type Backend struct {
	Container string    `json:"container"`      // name
	Slot      int       `json:"slot,omitempty"` // 0: the container is gone
	Revision  string    `json:"revision,omitempty"`
	Routed    bool      `json:"routed"`              // new connections may go to it
	Since     time.Time `json:"unroutedAt,omitzero"` // when it was taken out
	// AvoidedUntil is until when others are preferred, after Failures connects in a row.
	AvoidedUntil time.Time `json:"avoidedUntil,omitzero"`
	Failures     int       `json:"failures,omitempty"`
	Open         int       `json:"open"`
	Flow
}

// Flow counts connections and what they carried.
type Flow struct {
	Connections    uint64 `json:"connections"`
	FailedConnects uint64 `json:"failedConnects"`
	BytesIn        uint64 `json:"bytesIn"`  // from clients
	BytesOut       uint64 `json:"bytesOut"` // to clients
	// ConnectP50 and ConnectP99 are how long half, and 99 of 100, of the connects
	// took at most, as estimated from a histogram; 0: there were none.
	ConnectP50 time.Duration `json:"connectP50"`
	ConnectP99 time.Duration `json:"connectP99"`
}
