// Package api is what client and daemon say to each other: requests and
// answers of the HTTP API on the daemon's socket, as plain values.
package api

import (
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Version is the API's version, the first path element of every endpoint.
const Version = "v1"

// Error is the body of every answer that is not a success.
type Error struct {
	Message string       `json:"message"`
	Kind    runtime.Kind `json:"kind"`
}

// DaemonInfo answers GET /v1/info.
type DaemonInfo struct {
	Version     string             `json:"version"`
	Build       string             `json:"build"`      // identifies the binary
	Background  bool               `json:"background"` // started by a command, which may replace it
	PID         int                `json:"pid"`
	Started     time.Time          `json:"started"`
	Owner       string             `json:"owner"`
	StateDir    string             `json:"stateDir"`
	Engine      runtime.EngineInfo `json:"engine"`
	EngineError string             `json:"engineError,omitempty"` // set while the engine is down
}

// UpRequest is the body of PUT /v1/stacks/{stack} and of POST
// /v1/stacks/{stack}/plan, which only plans it.
type UpRequest struct {
	Stack            *stack.Stack      `json:"stack"`
	Contents         map[string][]byte `json:"contents,omitempty"` // of runtime.File, by name; kept out of the state file
	Services         []string          `json:"services,omitempty"` // empty: all
	NoDeps           bool              `json:"noDeps,omitempty"`
	NoStart          bool              `json:"noStart,omitempty"`
	ForceRecreate    bool              `json:"forceRecreate,omitempty"`
	RecreateDeps     bool              `json:"recreateDeps,omitempty"`
	NoRecreate       bool              `json:"noRecreate,omitempty"`
	RenewAnonVolumes bool              `json:"renewAnonVolumes,omitempty"`
	RemoveOrphans    bool              `json:"removeOrphans,omitempty"`
	Scale            map[string]int    `json:"scale,omitempty"`
	Timeout          *time.Duration    `json:"timeout,omitempty"`
	Adopt            bool              `json:"adopt,omitempty"`
	// NeedImages has a request that lacks images on the engine answered with
	// their names, and nothing changed: the command fetches them and asks again.
	NeedImages bool `json:"needImages,omitempty"`
	// Atomic: a service that fails its rollout takes the whole stack back.
	Atomic bool `json:"atomic,omitempty"`
	// Images are the IDs of the images that services are to run, by service, where
	// the engine still has them; a service without one runs what its reference means.
	Images map[string]string `json:"images,omitempty"`
	// Cause is what asks for it, as the history of revisions tells it: "scale web=5".
	// Control characters are taken for spaces, and only its first 300 characters are
	// kept. Empty: an up.
	Cause string `json:"cause,omitempty"`
}

// DownRequest is the body of POST /v1/stacks/{stack}/down.
type DownRequest struct {
	reconcile.Down
	// Stack is the file's, when there is one at hand: a stack the daemon has
	// forgotten, because it went down before, is taken away by it.
	Stack *stack.Stack `json:"stack,omitempty"`
}

// ActionRequest is the body of POST /v1/stacks/{stack}/actions: start, stop,
// restart, kill, pause, unpause, remove, or scale. Services and Slots select;
// both empty means all.
type ActionRequest struct {
	Op            string         `json:"op"`
	Services      []string       `json:"services,omitempty"`
	NoDeps        bool           `json:"noDeps,omitempty"`
	Signal        string         `json:"signal,omitempty"`
	Timeout       *time.Duration `json:"timeout,omitempty"`
	Stop          bool           `json:"stop,omitempty"`    // remove: stop it first
	Volumes       bool           `json:"volumes,omitempty"` // remove: anonymous volumes too
	Scale         map[string]int `json:"scale,omitempty"`
	RemoveOrphans bool           `json:"removeOrphans,omitempty"` // kill
	OneOff        string         `json:"oneOff,omitempty"`        // kill: the signal goes to this container of run only
}

// Accepted answers every request that edits desired state: follow the stack
// from Turn on to see it carried out.
type Accepted struct {
	Stack    string   `json:"stack"`
	Turn     uint64   `json:"turn"`
	Warnings []string `json:"warnings,omitempty"`
	// MissingImages says that nothing was accepted; see UpRequest.NeedImages.
	MissingImages []string `json:"missingImages,omitempty"`
}

// OneOffRequest is the body of POST /v1/stacks/{stack}/oneoffs. The stack must
// be known to the daemon or come along. The daemon creates the container; the
// client attaches to it and asks for its start.
type OneOffRequest struct {
	Up     UpRequest        `json:"up"`     // declares the service and starts its dependencies, without the service itself
	OneOff reconcile.OneOff `json:"oneOff"` // Number and Name are chosen by the daemon when empty
}

// OneOffCreated answers it once the container exists.
type OneOffCreated struct {
	Name      string `json:"name"`
	Container string `json:"container"` // ID
}

// RemoveOneOffRequest is the body of POST /v1/stacks/{stack}/oneoffs/{name}/remove.
type RemoveOneOffRequest struct {
	Timeout *time.Duration `json:"timeout,omitempty"`
}

// Summary is one line of GET /v1/stacks.
type Summary struct {
	Name        string   `json:"name"`
	Status      string   `json:"status"` // "running(3), exited(1)"
	ConfigFiles []string `json:"configFiles"`
	WorkingDir  string   `json:"workingDir"`
	Lost        bool     `json:"lost,omitempty"`
}

// Status answers GET /v1/stacks/{stack}: what is desired, what is there, and
// what the loop makes of the difference.
type Status struct {
	Desired  *reconcile.Desired `json:"desired"`
	Plan     *reconcile.Plan    `json:"plan"`
	Replicas []Replica          `json:"replicas"`
	// Beside are the other containers of these replicas: those that are being replaced.
	Beside   []Replica        `json:"beside,omitempty"`
	InFlight []reconcile.Step `json:"inFlight,omitempty"`
	// Published are the ports at which the balancer listens for the stack.
	Published []Published `json:"published,omitempty"`
}

// Replica is what the loop knows of one replica.
type Replica struct {
	Service   string            `json:"service"`
	Slot      int               `json:"slot"`
	Container runtime.Container `json:"container"`
	Ready     bool              `json:"ready"`            // the container that is wanted is
	Serves    bool              `json:"serves"`           // this container does, be it the wanted one or one that is being replaced
	Probed    bool              `json:"probed,omitempty"` // Berth's own probes have their say in Ready and Serves
	Restarts  int               `json:"restarts"`         // by the engine and by Berth
	Reason    string            `json:"reason,omitempty"`
}

// Probed is what the probes of a replica say now.
type Probed struct {
	Key       reconcile.Key `json:"key"`
	Service   string        `json:"service"`
	Container string        `json:"container"` // name
	Ready     bool          `json:"ready"`
	Why       string        `json:"why,omitempty"`
}

// EventType says what an [Event] tells.
type EventType string

// The types of event on GET /v1/stacks/{stack}/follow, an NDJSON stream.
const (
	EventStep    EventType = "step"    // a step began, succeeded or failed
	EventHold    EventType = "hold"    // a hold appeared or its reason changed
	EventProbe   EventType = "probe"   // what probes say of a replica changed
	EventRollout EventType = "rollout" // a service's rollout came further
	EventScale   EventType = "scale"   // the number of a service's replicas was decided anew
	EventSettled EventType = "settled" // last: what was waited for is reached, or can't be
)

// Event is one line of the stream. follow?turn=N&until=settled|ready ends with
// an EventSettled; without until it goes on.
type Event struct {
	Time    time.Time       `json:"time"`
	Type    EventType       `json:"type"`
	Stack   string          `json:"stack"`
	Phase   string          `json:"phase,omitempty"` // of a step: "begin", "done", "failed"
	Step    *reconcile.Step `json:"step,omitempty"`
	Hold    *reconcile.Hold `json:"hold,omitempty"`
	Probe   *Probed         `json:"probe,omitempty"`
	Rollout *RolloutChange  `json:"rollout,omitempty"`
	Scaling *Scaling        `json:"scaling,omitempty"`
	Dur     time.Duration   `json:"dur,omitempty"`    // of a step, when it ended
	Err     string          `json:"err,omitempty"`    // of a failed step, or why it could not be reached
	Status  string          `json:"status,omitempty"` // of a long step's progress: "Downloading"
	Failed  []string        `json:"failed,omitempty"` // EventSettled: each failing hold as "object: reason"
	Gone    bool            `json:"gone,omitempty"`
	// Orphans, of an EventSettled: containers of the stack that no service explains.
	Orphans []string `json:"orphans,omitempty"`
}
