package runtime

import (
	"fmt"
	"iter"
)

// State is where a container is in its lifecycle. The names are the Docker
// Engine's own; [Removed] is added for a container that is gone.
type State string

// The states of a container.
const (
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting" // the engine waits before it starts the container again
	Removing   State = "removing"
	Exited     State = "exited"
	Dead       State = "dead" // a removal failed half way; only another removal helps
	Removed    State = "removed"
)

// States lists every state, in lifecycle order.
func States() []State {
	return []State{Created, Running, Paused, Restarting, Removing, Exited, Dead, Removed}
}

// Valid reports whether s is one of [States].
func (s State) Valid() bool {
	_, ok := transitions[s]
	return ok
}

// Alive reports whether a process of the container exists or is about to:
// running, paused or restarting.
func (s State) Alive() bool { return s == Running || s == Paused || s == Restarting }

// Op is an operation that an engine carries out on one container.
type Op string

// The operations. [OpCreate] is legal only from [Removed]: there is no
// container yet.
const (
	OpCreate  Op = "create"
	OpStart   Op = "start"
	OpStop    Op = "stop"
	OpKill    Op = "kill"
	OpRestart Op = "restart"
	OpPause   Op = "pause"
	OpUnpause Op = "unpause"
	OpUpdate  Op = "update" // limits and restart policy, in place
	OpRemove  Op = "remove" // without force
)

// Ops lists every operation.
func Ops() []Op {
	return []Op{OpCreate, OpStart, OpStop, OpKill, OpRestart, OpPause, OpUnpause, OpUpdate, OpRemove}
}

// Outcome is one cell of the transition table: the state an operation leads
// to, or the kind of error that refuses it.
type Outcome struct {
	To   State
	Kind Kind // empty when the operation is legal
}

// OK reports whether the operation is legal.
func (o Outcome) OK() bool { return o.Kind == "" }

func to(s State) Outcome { return Outcome{To: s} }

var (
	conflict = Outcome{Kind: KindConflict}
	invalid  = Outcome{Kind: KindInvalid}
	notFound = Outcome{Kind: KindNotFound}
)

// transitions is the lifecycle: what each operation does in each state. The
// rows created, running, paused, restarting and exited are as Docker Engine
// 20.10.24 answers (a start between two runs of the restart policy does nothing,
// a kill ends the policy's waiting), with two refinements that engines of ours make before they call it:
// unpausing a container that is not paused is Invalid (the Engine answers an
// internal error), and a restart of a paused container is a Conflict (the
// Engine would lose the frozen process).
var transitions = map[State]map[Op]Outcome{
	Created: {
		OpCreate: conflict, OpStart: to(Running), OpStop: to(Created), OpKill: conflict, OpRestart: to(Running),
		OpPause: conflict, OpUnpause: invalid, OpUpdate: to(Created), OpRemove: to(Removed),
	},
	Running: {
		OpCreate: conflict, OpStart: to(Running), OpStop: to(Exited), OpKill: to(Exited), OpRestart: to(Running),
		OpPause: to(Paused), OpUnpause: invalid, OpUpdate: to(Running), OpRemove: conflict,
	},
	Paused: {
		OpCreate: conflict, OpStart: conflict, OpStop: to(Exited), OpKill: to(Exited), OpRestart: conflict,
		OpPause: conflict, OpUnpause: to(Running), OpUpdate: to(Paused), OpRemove: conflict,
	},
	Restarting: {
		OpCreate: conflict, OpStart: to(Restarting), OpStop: to(Exited), OpKill: to(Exited), OpRestart: to(Running),
		OpPause: conflict, OpUnpause: invalid, OpUpdate: to(Restarting), OpRemove: conflict,
	},
	Removing: {
		OpCreate: conflict, OpStart: conflict, OpStop: to(Removing), OpKill: conflict, OpRestart: conflict,
		OpPause: conflict, OpUnpause: invalid, OpUpdate: conflict, OpRemove: conflict,
	},
	Exited: {
		OpCreate: conflict, OpStart: to(Running), OpStop: to(Exited), OpKill: conflict, OpRestart: to(Running),
		OpPause: conflict, OpUnpause: invalid, OpUpdate: to(Exited), OpRemove: to(Removed),
	},
	Dead: {
		OpCreate: conflict, OpStart: conflict, OpStop: to(Dead), OpKill: conflict, OpRestart: conflict,
		OpPause: conflict, OpUnpause: invalid, OpUpdate: conflict, OpRemove: to(Removed),
	},
	Removed: {
		OpCreate: to(Created), OpStart: notFound, OpStop: notFound, OpKill: notFound, OpRestart: notFound,
		OpPause: notFound, OpUnpause: notFound, OpUpdate: notFound, OpRemove: notFound,
	},
}

// Transition returns what op does to a container in state from. An unknown
// state or operation is Invalid.
func Transition(from State, op Op) Outcome {
	if o, ok := transitions[from][op]; ok {
		return o
	}
	return invalid
}

// Transitions walks the whole table, states and operations in their order.
func Transitions() iter.Seq2[struct {
	From State
	Op   Op
}, Outcome] {
	return func(yield func(struct {
		From State
		Op   Op
	}, Outcome) bool) {
		for _, s := range States() {
			for _, op := range Ops() {
				if !yield(struct {
					From State
					Op   Op
				}{s, op}, transitions[s][op]) {
					return
				}
			}
		}
	}
}

// CheckTransition returns nil when op is legal in state from, else an [Error]
// of the table's kind that says what would have been legal.
func CheckTransition(name string, from State, op Op) error {
	o := Transition(from, op)
	if o.OK() {
		return nil
	}
	return &Error{Kind: o.Kind, Op: string(op), Object: name, Err: fmt.Errorf("not possible while the container is %s", from)}
}
