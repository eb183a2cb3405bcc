package api

import (
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
)

// Rollouts answers GET /v1/stacks/{stack}/rollouts.
type Rollouts struct {
	Revision int             `json:"revision"` // number of the newest declaration
	Services []RolloutStatus `json:"services"` // sorted by name
}

// RolloutStatus is how the replacement of one service's replicas stands.
type RolloutStatus struct {
	Service  string             `json:"service"`
	Revision string             `json:"revision"`
	Replicas int                `json:"replicas"`          // wanted
	Rollout  *reconcile.Rollout `json:"rollout,omitempty"` // nil: none was needed
	Held     bool               `json:"held,omitempty"`    // by command
	// CanarySteps is how many steps its canary has, 0: none; CanaryHold is how long
	// each lasts, 0: until somebody resumes the rollout.
	CanarySteps int                   `json:"canarySteps,omitempty"`
	CanaryHold  time.Duration         `json:"canaryHold,omitempty"`
	RolledBack  *reconcile.RolledBack `json:"rolledBack,omitempty"`
	Holds       []string              `json:"holds,omitempty"` // what its replicas wait for
}

// The operations of a [RolloutRequest].
const (
	RolloutPause  = "pause"
	RolloutResume = "resume"
)

// RolloutRequest is the body of POST /v1/stacks/{stack}/rollouts.
type RolloutRequest struct {
	Op       string   `json:"op"`
	Services []string `json:"services,omitempty"` // empty: all
}

// UndoRequest is the body of POST /v1/stacks/{stack}/undo.
type UndoRequest struct {
	To       int      `json:"to,omitempty"`       // number of a kept revision; 0: the one before
	Services []string `json:"services,omitempty"` // empty: the whole stack
}

// Revision is one kept declaration of a stack, as GET /v1/stacks/{stack}/revisions
// lists them.
type Revision struct {
	Number  int                `json:"number"`
	At      time.Time          `json:"at"`
	Cause   string             `json:"cause,omitempty"` // empty: an up
	Changes []reconcile.Change `json:"changes"`         // against the one before
}

// RevisionDiff answers GET /v1/stacks/{stack}/revisions/diff?from=N&to=M.
type RevisionDiff struct {
	From    int                `json:"from"`
	To      int                `json:"to"`
	Changes []reconcile.Change `json:"changes"`
}

// RolloutChange is what an [EventRollout] tells.
type RolloutChange struct {
	Service string                 `json:"service"`
	State   reconcile.RolloutState `json:"state"`
	Why     string                 `json:"why,omitempty"`
	Done    int                    `json:"done"`
	Failed  int                    `json:"failed,omitempty"`
	Total   int                    `json:"total"`
	Step    int                    `json:"step,omitempty"` // of a canary, from 0
	Back    bool                   `json:"back,omitempty"` // it is a way back
	New     bool                   `json:"new,omitempty"`  // the service was not there before: nothing is replaced
}
