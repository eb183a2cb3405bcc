// Package reconcile holds the loop's three parts for one stack: observe what
// the engine has, plan the difference to what is desired, execute the plan.
//
// [Decide] is a pure function of desired, observed, memory and now. A plan never
// waits: for each target it holds at most one step that is legal now, or a hold
// that says what it waits for, and one wake time. [Executor] is the only code of
// Berth that changes containers, networks and volumes.
package reconcile

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Key names what a step or hold is about: a replica ("web/2"), a one-off
// ("web/run-1"), a container no service explains ("container/<name>"), or an
// object of the stack ("network/<name>", "volume/<name>", "image/<ref>"). At most
// one step for a key is in flight.
type Key string

// Op is what a step does: an operation of the lifecycle table, or one of the
// operations on a stack's other objects.
type Op string

// The operations of steps.
const (
	OpCreate       = Op(runtime.OpCreate)
	OpStart        = Op(runtime.OpStart)
	OpStop         = Op(runtime.OpStop)
	OpKill         = Op(runtime.OpKill)
	OpRestart      = Op(runtime.OpRestart)
	OpPause        = Op(runtime.OpPause)
	OpUnpause      = Op(runtime.OpUnpause)
	OpUpdate       = Op(runtime.OpUpdate)
	OpRemove       = Op(runtime.OpRemove)
	OpRename    Op = "rename"
	OpPull      Op = "pull"
	OpBuild     Op = "build"
	OpNetCreate Op = "create network"
	OpNetRemove Op = "remove network"
	OpVolCreate Op = "create volume"
	OpVolRemove Op = "remove volume"
	OpHook      Op = "hook"   // run the commands of a container's start
	OpExec      Op = "exec"   // run one command, as a failed probe asks for
	OpNotify    Op = "notify" // tell somebody else, as a failed probe asks for
)

// Step is one engine call, legal now.
type Step struct {
	Op        Op     `json:"op"`
	Key       Key    `json:"key"`
	Service   string `json:"service,omitempty"`
	Slot      int    `json:"slot,omitempty"`
	Name      string `json:"name"`                // of the container, network, volume or image
	Container string `json:"container,omitempty"` // ID, when there is one
	Node      string `json:"node,omitempty"`      // the virtual node the replica is on
	Cause     string `json:"cause"`               // why, in words that name the keys that differ
	Revision  string `json:"revision,omitempty"`

	// What the operation needs; never printed.
	Spec    *runtime.Spec         `json:"-"` // create
	Labels  map[string]string     `json:"-"` // create
	NewName string                `json:"newName,omitempty"`
	Limits  runtime.Limits        `json:"-"` // update
	Restart runtime.RestartPolicy `json:"-"` // update
	Signal  string                `json:"signal,omitempty"`
	Grace   time.Duration         `json:"grace,omitempty"`
	Volumes bool                  `json:"volumes,omitempty"` // remove: anonymous volumes too
	Force   bool                  `json:"force,omitempty"`
	Network *runtime.NetworkSpec  `json:"-"`
	Volume  *runtime.VolumeSpec   `json:"-"`
	Build   *runtime.Build        `json:"-"`
	Urgent  bool                  `json:"urgent,omitempty"` // passes a queue of ordinary starts: something crashed
	// Policy marks a start that deploy.restart_policy asked for: it counts
	// against max_attempts.
	Policy bool `json:"policy,omitempty"`
	// Heals marks a start, or the creation of a successor, after probes had
	// failed: it counts for the crash-loop backoff, as Policy does.
	Heals bool `json:"heals,omitempty"`
	// Ends says why the step ends or freezes the container's run, and what is to
	// become of it; nil: it is the service that is to rest.
	Ends    *Ended       `json:"-"`
	Hooks   []stack.Hook `json:"-"` // hook: what is run; stop and restart: what is run before
	Command []string     `json:"-"` // exec
	URL     string       `json:"-"` // notify
	Since   time.Time    `json:"-"` // hook: start of the run; exec, notify: when the probe failed
	// Prepares names what a pre_start step that is removed has prepared.
	Prepares string `json:"-"`
	// Finished is when the run ended that a start follows.
	Finished time.Time `json:"-"`
}

// String is the plan's text form of a step: "start web/2 shop-web-2  (cause)".
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-14s %-12s %s", s.Op, s.Key, s.Name)
	if s.NewName != "" {
		fmt.Fprintf(&b, " -> %s", s.NewName)
	}
	if s.Node != "" {
		fmt.Fprintf(&b, " on %s", s.Node)
	}
	if s.Cause != "" {
		fmt.Fprintf(&b, "  (%s)", s.Cause)
	}
	return strings.TrimRight(b.String(), " ")
}

// HoldKind says what a hold means for whoever waits for the stack.
type HoldKind string

// The kinds of hold.
const (
	// HoldWaiting: it will go on by itself once what it waits for has happened.
	HoldWaiting HoldKind = "waiting"
	// HoldFailing: something failed. It is tried again at Until, or never when
	// that is zero; a command that waits for the stack ends with this reason.
	HoldFailing HoldKind = "failing"
	// HoldIdle: nothing more is to be done now, and here is why, such as a job
	// that has ended or a restart that is due later. Nobody waits for it.
	HoldIdle HoldKind = "idle"
)

// Hold is a reason not to act now.
type Hold struct {
	Kind    HoldKind  `json:"kind"`
	Key     Key       `json:"key"`
	Service string    `json:"service,omitempty"`
	Slot    int       `json:"slot,omitempty"`
	Name    string    `json:"name,omitempty"`
	Reason  string    `json:"reason"`
	Until   time.Time `json:"until,omitzero"` // when to look again; zero: when something changes
	// Rollout: the service's rollout rests, at a canary's step or by command.
	Rollout bool `json:"rollout,omitempty"`
}

func (h Hold) String() string {
	return fmt.Sprintf("%-14s %-12s %s  (%s)", "hold", h.Key, h.Name, h.Reason)
}

// Plan is what is to be done now for one stack, and what is not, and why.
type Plan struct {
	Stack    string    `json:"stack"`
	Steps    []Step    `json:"steps"`
	Holds    []Hold    `json:"holds"`
	Orphans  []string  `json:"orphans,omitempty"`  // names of containers that no service explains
	Warnings []string  `json:"warnings,omitempty"` // such as a volume that differs from the file
	Wake     time.Time `json:"wake,omitzero"`      // when to plan again; zero: when something changes
	Next     time.Time `json:"-"`                  // when a rollout goes on by itself
	// Satisfied are the indexes of Desired.Requests that are done with.
	Satisfied []int `json:"-"`
	// DoneOneOffs are the indexes of Desired.OneOffs that are done with.
	DoneOneOffs []int `json:"-"`
	// Culprits are the IDs of containers whose last output would tell why others
	// wait in vain.
	Culprits []string `json:"-"`
	// Placed is what the plan has decided about nodes.
	Placed Placed `json:"-"`
	// Rollouts are how far the replacements of services' replicas have come: what
	// the memory of the next turn is to hold.
	Rollouts map[string]Rollout `json:"rollouts,omitempty"`
	// Settle are the services whose present revision has proved good.
	Settle []string `json:"-"`
	// RollBack are the services that go back to their last good revision, and why.
	RollBack map[string]string `json:"rollBack,omitempty"`
	// Routes are what the balancer is to do for the services whose ports it holds.
	Routes map[string]Routing `json:"-"`
	// Relayed are the services whose names lead to relays, and where those lead.
	Relayed map[string]Relayed `json:"-"`
	// Gone: the stack was to go down and nothing of it is left.
	Gone bool `json:"gone,omitempty"`
}

// Empty reports whether nothing is to be done.
func (p *Plan) Empty() bool { return len(p.Steps) == 0 }

// Settled reports whether nothing more will change by itself: no step, and no
// hold that waits.
func (p *Plan) Settled() bool {
	if len(p.Steps) > 0 {
		return false
	}
	for i := range p.Holds {
		if p.Holds[i].Kind == HoldWaiting {
			return false
		}
	}
	return true
}

// String prints the plan, one line a step or hold, with its cause: the golden
// of the unit tests, the output of plan, and the debug log.
func (p *Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		b.WriteString(s.String())
		b.WriteByte('\n')
	}
	for _, h := range p.Holds {
		b.WriteString(h.String())
		b.WriteByte('\n')
	}
	for _, o := range p.Orphans {
		fmt.Fprintf(&b, "%-14s %s\n", "orphan", o)
	}
	return b.String()
}

// ReplicaKey is the key of a replica.
func ReplicaKey(service string, slot int) Key { return Key(service + "/" + strconv.Itoa(slot)) }

// replica takes the key of a replica apart; a key of something else has slot 0.
func (k Key) replica() (service string, slot int) {
	i := strings.LastIndexByte(string(k), '/')
	if i < 0 {
		return string(k), 0
	}
	slot, err := strconv.Atoi(string(k[i+1:]))
	if err != nil {
		return string(k), 0
	}
	return string(k[:i]), slot
}
