// Package stack turns a Compose file into a [Stack]: everything one Compose
// project declares, resolved, as plain values that the planner understands.
//
// It is the only importer of compose-go. Every key of the Compose
// specification is classified in it as carried out, handed to a later part, or
// refused; a key that is not carried out yields a [Warning] with file and line.
package stack

import (
	"fmt"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// Stack is one Compose project, resolved. Lists are sorted by name, so that
// two loads of one file are equal; only Nodes keep their order, as ties between
// nodes go to the first.
type Stack struct {
	Name        string    `json:"name"`
	WorkingDir  string    `json:"workingDir"`
	ConfigFiles []string  `json:"configFiles"`
	EnvFiles    []string  `json:"envFiles,omitempty"`
	Profiles    []string  `json:"profiles,omitempty"`
	Services    []Service `json:"services"`           // of the active profiles
	Inactive    []string  `json:"inactive,omitempty"` // services of other profiles: not orphans
	Networks    []Network `json:"networks,omitempty"`
	Volumes     []Volume  `json:"volumes,omitempty"`
	// SecretFiles are the host files that containers see as secrets, sorted: what
	// they hold is kept out of what Berth shows.
	SecretFiles []string `json:"secretFiles,omitempty"`

	Revisions  int              `json:"revisions,omitempty"`  // x-berth.revisions: how many are kept; 0: 10
	Nodes      []Node           `json:"nodes,omitempty"`      // x-berth.nodes; none: one node, as large as the engine
	Overcommit bool             `json:"overcommit,omitempty"` // the nodes together may promise more than the engine has
	Scheduling scheduler.Policy `json:"scheduling,omitzero"`
}

// Service returns the service of that name, or nil.
func (s *Stack) Service(name string) *Service {
	for i := range s.Services {
		if s.Services[i].Name == name {
			return &s.Services[i]
		}
	}
	return nil
}

// StepImages returns a service for each image that a service's pre_start steps
// need besides its own: the one of the stack that builds it, else one that has
// no more than a name, an image, a platform and a pull policy.
func (s *Stack) StepImages(svc *Service) []*Service {
	var out []*Service
	seen := map[string]bool{svc.Spec.Image: true}
	for i := range svc.PreStart {
		step := &svc.PreStart[i]
		image := step.Spec.Image
		if seen[image] {
			continue
		}
		seen[image] = true
		need := &Service{Name: svc.Name, Spec: runtime.Spec{Image: image, Platform: step.Spec.Platform}, PullPolicy: step.PullPolicy}
		for j := range s.Services {
			if s.Services[j].Build != nil && s.Services[j].Spec.Image == image {
				need = &s.Services[j]
			}
		}
		out = append(out, need)
	}
	return out
}

// Network returns the network of that key, or nil.
func (s *Stack) Network(key string) *Network {
	for i := range s.Networks {
		if s.Networks[i].Key == key {
			return &s.Networks[i]
		}
	}
	return nil
}

// Node is a virtual node that the stack declares, and the part of its boundary
// that the scheduler does not count. CPU, memory and [Node.Pids] are limits of
// the node's cgroup; 0 is no limit.
type Node struct {
	scheduler.Node
	Pids int64 `json:"pids,omitempty"` // processes and threads that all its containers may have together
}

// Mode is how many replicas a service has, and whether they are to end.
type Mode string

// The modes of deploy.mode.
const (
	Replicated    Mode = ""               // as many as Service.Replicas
	Global        Mode = "global"         // one on each node that takes it
	ReplicatedJob Mode = "replicated-job" // Service.Replicas of them, each run until it exits with 0
	GlobalJob     Mode = "global-job"     // one on each node, run until it exits with 0
)

// Job reports whether the replicas run to completion: one that has exited with
// 0 is done and is not run again before the revision changes.
func (m Mode) Job() bool { return m == ReplicatedJob || m == GlobalJob }

// PerNode reports whether the nodes decide how many replicas there are.
func (m Mode) PerNode() bool { return m == Global || m == GlobalJob }

// Service is a template of identical replicas.
//
// Spec is what all replicas share. References to other services stand in it as
// "service:<name>" (NetworkMode, PidMode, IpcMode, VolumesFrom; Links as
// "service:<name>:<alias>") and are resolved to containers when a replica is
// created. The templates {{.Task.Slot}}, {{.Service.Name}} and
// {{.Node.Hostname}} stand unexpanded in Env, Hostname and Mounts.
type Service struct {
	Name          string         `json:"name"`
	Spec          runtime.Spec   `json:"spec"`
	Build         *runtime.Build `json:"build,omitempty"`
	PullPolicy    string         `json:"pullPolicy,omitempty"` // always, never, missing (default), build, daily, weekly, every_<duration>
	ContainerName string         `json:"containerName,omitempty"`
	Mode          Mode           `json:"mode,omitempty"`
	Replicas      int            `json:"replicas"` // of a global service: 1 for each node, or 0 where it is scaled to none
	DependsOn     []Dependency   `json:"dependsOn,omitempty"`
	Restart       *RestartPolicy `json:"restartPolicy,omitempty"` // deploy.restart_policy; nil: the engine's in Spec
	// Probes are Berth's own checks of each replica; without a readiness probe the
	// engine's healthcheck counts as readiness. NamedPorts are the container ports
	// that a probe may name.
	Probes     health.Probes     `json:"probes,omitzero"`
	NamedPorts map[string]uint16 `json:"namedPorts,omitempty"`
	// OnUnhealthy is what a failing engine healthcheck leads to; zero: nothing.
	OnUnhealthy health.Action `json:"onUnhealthy,omitzero"`
	// WhileUnready is what becomes of a running replica while a dependency with
	// condition service_healthy is not ready; DependencyDeadline is how long the
	// dependencies are waited for before the start counts as failed, 0: without end.
	WhileUnready       WhileUnready  `json:"whileUnready,omitempty"`
	DependencyDeadline time.Duration `json:"dependencyDeadline,omitempty"`
	PreStart           []Init        `json:"preStart,omitempty"`  // run to completion before the container starts, in order
	PostStart          []Hook        `json:"postStart,omitempty"` // run in the container after it has started
	PreStop            []Hook        `json:"preStop,omitempty"`   // run in the container before it is stopped
	Develop            bool          `json:"-"`
	// Labels are deploy.labels: what the file says of the service itself, not of its
	// containers. They are kept and shown, and change nothing.
	Labels map[string]string `json:"labels,omitempty"`
	// Update and RollBack are how replicas are replaced by another revision, and by
	// the last good one after that has failed; Rollout is what Berth adds to both.
	Update   Update  `json:"update"`
	RollBack Update  `json:"rollBack"`
	Rollout  Rollout `json:"rollout"`
	// Publish says who holds the published ports, and Balance what the balancer
	// does with its own.
	Publish   Publish   `json:"publish,omitempty"`
	Balance   Balance   `json:"balance"`
	Discovery Discovery `json:"discovery,omitempty"`
	// Names are, with [DiscoverReady], the service's networks and what it is called
	// in each: they lead to its relay, and its replicas have their own names alone.
	Names       []runtime.Attachment `json:"names,omitempty"`
	ImageUpdate *ImageUpdate         `json:"imageUpdate,omitempty"`
	// Autoscale decides how many replicas there are, where Replicas is the number to
	// begin with; Vertical decides their limits. Warm is how many more are kept
	// paused, to be there at once.
	Autoscale *Autoscale `json:"autoscale,omitempty"`
	Vertical  *Vertical  `json:"vertical,omitempty"`
	Warm      int        `json:"warm,omitempty"`
	// Placement is what the scheduler must know of each replica. It is no part of
	// Revision: a change of it may move replicas, but one that stands on a node
	// that still suits it is not created anew.
	Placement scheduler.Template `json:"placement,omitzero"`
	// Revision is the hash of everything that only a new container can change,
	// its pre_start steps, the contents of its configs and secrets and the
	// revisions of its networks included. Limits, probes, the other hooks, the
	// engine's restart policy, mode, replicas, placement and dependencies are not
	// part of it: they change in place. Neither are the published ports, which the
	// balancer may hold: whether a container has the right ones is told by what it
	// says of itself (runtime.LabelPublish).
	Revision string `json:"revision"`
}

// WhileUnready says what becomes of a service while what it depends on is not ready.
type WhileUnready string

// What can become of it.
const (
	Keep         WhileUnready = "" // it runs on
	PauseUnready WhileUnready = "pause"
	StopUnready  WhileUnready = "stop"
)

// Hook is a command that is run in a service's container.
type Hook struct {
	Command    []string `json:"command"`
	User       string   `json:"user,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Env        []string `json:"env,omitempty"`
}

// Init is a container that runs to completion before the service's own starts.
// Its spec is complete; references and templates stand in it as in the service's
// own. It mounts what the service mounts except anonymous volumes, which only
// exist once a replica's container does, and has no name on the networks.
type Init struct {
	Spec       runtime.Spec `json:"spec"`
	PullPolicy string       `json:"pullPolicy,omitempty"` // as of a service; its image is built only where it is the service's
	PerReplica bool         `json:"perReplica,omitempty"` // false: once for the service and its revision
}

// Condition is what a dependency must have reached.
type Condition string

// The conditions of depends_on.
const (
	Started   Condition = "service_started"
	Healthy   Condition = "service_healthy"
	Completed Condition = "service_completed_successfully"
)

// Dependency makes a service wait for another.
type Dependency struct {
	Service   string    `json:"service"`
	Condition Condition `json:"condition"`
	Required  bool      `json:"required"`          // false: a missing or failed one only warns
	Restart   bool      `json:"restart,omitempty"` // restart with it
}

// RestartPolicy is deploy.restart_policy, carried out by Berth.
type RestartPolicy struct {
	Condition   string        `json:"condition"` // "any", "on-failure" or "none"
	Delay       time.Duration `json:"delay"`
	MaxAttempts int           `json:"maxAttempts,omitempty"` // 0: no limit
	Window      time.Duration `json:"window,omitempty"`      // restarts older than this do not count; 0: all count
}

// Network is a network of the stack.
type Network struct {
	Key      string              `json:"key"`
	External bool                `json:"external,omitempty"` // must exist; never created or removed
	Spec     runtime.NetworkSpec `json:"spec"`               // without identity labels
	Revision string              `json:"revision,omitempty"`
}

// Volume is a named volume of the stack.
type Volume struct {
	Key      string             `json:"key"`
	External bool               `json:"external,omitempty"`
	Spec     runtime.VolumeSpec `json:"spec"`
	Revision string             `json:"revision,omitempty"`
}

// Position is a place in a Compose file; Line is 1-based, 0 when unknown.
type Position struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Warning says that a key of the file is not carried out, and where it stands.
type Warning struct {
	Position
	Path    string `json:"path"` // "services.web.deploy.placement"
	Message string `json:"message"`
}

func (w Warning) String() string {
	return fmt.Sprintf("%s: %s: %s", w.Position, w.Path, w.Message)
}
