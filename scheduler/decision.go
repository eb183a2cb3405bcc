package scheduler

// Decision is how one replica was placed, or why it was not.
type Decision struct {
	Node     string    `json:"node,omitempty"` // empty: no node takes it
	Reason   string    `json:"reason"`         // "emptiest of 3 nodes …", or "0/3 nodes: 2 insufficient memory (needs 128M, 96M free on edge-1), 1 taint dedicated=db"
	Hint     string    `json:"hint,omitempty"` // the smallest change that would make it fit
	Verdicts []Verdict `json:"verdicts,omitempty"`
}

// Verdict is what the filters and scores say of one node.
type Verdict struct {
	Node string `json:"node"`
	// Filter is the first filter that rejects the node, and Reason why; both
	// empty when it is feasible.
	Filter  string          `json:"filter,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Filters []FilterVerdict `json:"filters,omitempty"` // of every filter, in their order
	Score   int64           `json:"score,omitempty"`   // weighted sum
	Scores  []Score         `json:"scores,omitempty"`
}

// FilterVerdict is what one filter says; an empty reason passes.
type FilterVerdict struct {
	Filter string `json:"filter"`
	Reason string `json:"reason,omitempty"`
}

// Score is one component of a node's score, normalised to 0..100.
type Score struct {
	Name   string `json:"name"`
	Value  int64  `json:"value"`
	Weight int    `json:"weight"`
}
