package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/berth-dev/berth/scaling"
)

// Recording is a run of decisions in a row, as one was made and carried out after
// the other.
type Recording struct {
	State scaling.State `json:"state,omitzero"` // before the first
	Steps []Step        `json:"steps"`
}

// Replay makes the decisions of a recording again. It returns an error that says
// where one comes out differently, and how.
func Replay(r Recording) error {
	state := r.State
	for i, s := range r.Steps {
		var d scaling.Decision
		d, state = scaling.Decide(s.Policy, state, s.Input, s.Decision.At)
		got, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		want, err := json.Marshal(s.Decision)
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("step %d: recorded %q, which is %s, but now %q, which is %s", i, s.Decision, want, d, got)
		}
	}
	return nil
}
