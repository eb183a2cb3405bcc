package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/berth-dev/berth/scaling"
)

// Recording is a run of decisions in a row, as one was made and carried out after
// the other.
type Recording struct {
	State scaling.State `json:"state,omitzero"` // before the first
	Steps []Step        `json:"steps"`
	// Looks are the decisions by what is under way at once, and Concurrency is the
	// state before the first of them. Where metrics decide too, the larger number counts.
	Concurrency scaling.ConcurrencyState `json:"concurrency,omitzero"`
	Looks       []Look                   `json:"looks,omitempty"`
}

// Empty reports whether nothing was decided.
func (r *Recording) Empty() bool { return len(r.Steps)+len(r.Looks) == 0 }

// Look is one decision by what is under way at once. What else it followed from is
// part of the decision.
type Look struct {
	Concurrency scaling.Concurrency `json:"concurrency"`
	// Load is what was seen since the look before, and before the first of a recording.
	Load     []scaling.Load              `json:"load"`
	Decision scaling.ConcurrencyDecision `json:"decision"`
}

// After is the state after a look, and the loads that the next one begins with.
func (l *Look) After(s scaling.ConcurrencyState, load []scaling.Load) (scaling.ConcurrencyDecision, scaling.ConcurrencyState, []scaling.Load) {
	load = scaling.RecentLoad(append(slices.Clone(load), l.Load...))
	d, s := l.Concurrency.Decide(s, l.Decision.Current, l.Decision.Ready, load, l.Decision.At)
	return d, s, load
}

// Replay makes the decisions of a recording again. It returns an error that says
// where one comes out differently, and how.
func Replay(r Recording) error {
	state := r.State
	for i, s := range r.Steps {
		var d scaling.Decision
		d, state = scaling.Decide(s.Policy, state, s.Input, s.Decision.At)
		if err := compare(s.Decision, d); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	concurrency, load := r.Concurrency, []scaling.Load(nil)
	for i := range r.Looks {
		var d scaling.ConcurrencyDecision
		d, concurrency, load = r.Looks[i].After(concurrency, load)
		if err := compare(r.Looks[i].Decision, d); err != nil {
			return fmt.Errorf("look %d: %w", i, err)
		}
	}
	return nil
}

// compare says how a decision differs from the one that was recorded; nil: it does not.
func compare(recorded, now fmt.Stringer) error {
	want, err := json.Marshal(recorded)
	if err != nil {
		return err
	}
	got, err := json.Marshal(now)
	if err != nil || bytes.Equal(got, want) {
		return err
	}
	return fmt.Errorf("recorded %q, which is %s, but now %q, which is %s", recorded, want, now, got)
}
