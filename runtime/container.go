package runtime

import (
	"slices"
	"time"
)

// Container is what an engine reports of one container: facts, no judgement.
type Container struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"` // without the leading slash
	Labels map[string]string `json:"labels,omitempty"`

	Image   string   `json:"image"`             // the reference it was created from
	ImageID string   `json:"imageId"`           // the image it runs, whatever the reference means now
	Command []string `json:"command,omitempty"` // path and arguments as started

	State        State     `json:"state"`
	Created      time.Time `json:"created"`
	Started      time.Time `json:"started,omitzero"`       // last start; zero: never
	Finished     time.Time `json:"finished,omitzero"`      // last exit; zero: never
	RestartCount int       `json:"restartCount,omitempty"` // restarts by the engine's own policy
	ExitCode     int       `json:"exitCode"`
	OOMKilled    bool      `json:"oomKilled,omitempty"` // the engine's flag; not reliable on every cgroup version
	Error        string    `json:"error,omitempty"`     // why the last start failed
	PID          int       `json:"pid,omitempty"`       // of the main process in the engine's namespace; 0: none

	Health       Health `json:"health,omitempty"`
	HealthOutput string `json:"healthOutput,omitempty"` // of the last check, cut at 4 KiB

	TTY         bool          `json:"tty,omitempty"`
	AutoRemove  bool          `json:"autoRemove,omitempty"`
	StopSignal  string        `json:"stopSignal,omitempty"`
	Limits      Limits        `json:"limits,omitzero"`
	Restart     RestartPolicy `json:"restart,omitzero"`
	NetworkMode string        `json:"networkMode,omitempty"`
	Mounts      []MountPoint  `json:"mounts,omitempty"`
	Networks    []Endpoint    `json:"networks,omitempty"` // sorted by name
	Ports       []BoundPort   `json:"ports,omitempty"`    // sorted
	DependsOn   []string      `json:"dependsOn,omitempty"`

	// Status is what a list says for people, such as "Up 2 minutes (healthy)";
	// empty after an inspection, and where an engine has no such text.
	Status string `json:"-"`

	SizeRW     int64 `json:"sizeRw,omitempty"`     // bytes; only where asked for
	SizeRootFs int64 `json:"sizeRootFs,omitempty"` // bytes; only where asked for
}

// Uptime is how long the container has been running at now; zero when it does
// not run. It is never negative, whatever the clock did.
func (c *Container) Uptime(now time.Time) time.Duration {
	if !c.State.Alive() || c.Started.IsZero() {
		return 0
	}
	return max(0, now.Sub(c.Started))
}

// Ran is how long the last run lasted; zero when there was none or it goes on.
func (c *Container) Ran() time.Duration {
	if c.State.Alive() || c.Started.IsZero() || c.Finished.IsZero() {
		return 0
	}
	return max(0, c.Finished.Sub(c.Started))
}

// Clone returns a copy that shares no memory with c.
func (c *Container) Clone() Container {
	d := *c
	d.Labels = cloneMap(c.Labels)
	d.Command = slices.Clone(c.Command)
	d.Mounts = slices.Clone(c.Mounts)
	d.Networks = slices.Clone(c.Networks)
	for i := range d.Networks {
		d.Networks[i].Aliases = slices.Clone(d.Networks[i].Aliases)
	}
	d.Ports = slices.Clone(c.Ports)
	d.DependsOn = slices.Clone(c.DependsOn)
	return d
}

func cloneMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	d := make(map[string]string, len(m))
	for k, v := range m {
		d[k] = v
	}
	return d
}

// Health is the status of the engine's own healthcheck.
type Health string

// The healthcheck's statuses. [HealthNone]: the container has no check.
const (
	HealthNone      Health = ""
	HealthStarting  Health = "starting"
	HealthHealthy   Health = "healthy"
	HealthUnhealthy Health = "unhealthy"
)

// MountPoint is a mount as the engine reports it.
type MountPoint struct {
	Type     MountType `json:"type"`
	Name     string    `json:"name,omitempty"`   // of the volume
	Source   string    `json:"source,omitempty"` // on the host
	Target   string    `json:"target"`
	ReadOnly bool      `json:"readOnly,omitempty"`
}

// Endpoint is a container's place in one network.
type Endpoint struct {
	Network   string   `json:"network"` // the engine's name of it
	NetworkID string   `json:"networkId,omitempty"`
	IPv4      string   `json:"ipv4,omitempty"`
	IPv6      string   `json:"ipv6,omitempty"`
	Gateway   string   `json:"gateway,omitempty"`
	Mac       string   `json:"mac,omitempty"`
	Aliases   []string `json:"aliases,omitempty"`
}

// BoundPort is a port of a container and where the host publishes it.
type BoundPort struct {
	Target   uint16 `json:"target"`
	Protocol string `json:"protocol"`
	HostIP   string `json:"hostIp,omitempty"`
	HostPort uint16 `json:"hostPort,omitempty"` // 0: exposed, not published
}
