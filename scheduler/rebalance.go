package scheduler

import (
	"fmt"
	"strconv"
	"strings"
)

// Goal is what a rebalance is for.
type Goal string

// The goals of a rebalance.
const (
	GoalBalance     Goal = "balance"     // all nodes used alike
	GoalConsolidate Goal = "consolidate" // as many nodes as possible emptied
)

// DefaultMinGain is the least that a move must gain when nothing else is said,
// in millionths of a fully used node: about what it gains to take a twentieth of
// a node from one that is used to 56 % to one that is used to 50 %.
const DefaultMinGain = 500

// Rebalancing says how to rebalance.
type Rebalancing struct {
	Goal   Goal   // empty: balance
	Budget Budget // of moves
	// MinGain is by how much each move toward balance must lower the squared use,
	// in millionths of a fully used node; 0: [DefaultMinGain].
	MinGain int64
	// Fixed says why a replica must stay where it is; empty: it may move. Nil
	// lets all of them move.
	Fixed func(Replica) string
}

// Budget bounds the number of moves. The zero value does not.
type Budget struct {
	Moves   int // at most so many; 0: any number
	Percent int // at most so many percent of the placed replicas, rounded down; 0: any
}

// ParseBudget reads "5", a number of moves, or "20%", a share of the replicas.
// Empty is no bound.
func ParseBudget(text string) (Budget, error) {
	if text == "" {
		return Budget{}, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(number)
	switch {
	case err != nil || n < 1:
		return Budget{}, fmt.Errorf("budget %q: give a number of moves such as 5, or a share of the replicas such as 20%%", text)
	case percent:
		return Budget{Percent: n}, Budget{Percent: n}.check()
	}
	return Budget{Moves: n}, nil
}

func (b Budget) check() error {
	if b.Moves < 0 {
		return fmt.Errorf("budget of %d moves: it must not be negative", b.Moves)
	}
	if b.Percent < 0 || b.Percent > 100 {
		return fmt.Errorf("budget of %d%%: it must be within 0 and 100", b.Percent)
	}
	return nil
}

// of is the number of moves that the budget allows among so many replicas.
func (b Budget) of(replicas int) int {
	moves := replicas
	if b.Percent > 0 {
		moves = replicas * b.Percent / 100
	}
	if b.Moves > 0 {
		moves = min(moves, b.Moves)
	}
	return moves
}

// Rebalanced is a proposal to move replicas.
type Rebalanced struct {
	Moves  []Move         `json:"moves"` // to be carried out in this order
	Fixed  []FixedReplica `json:"fixed,omitempty"`
	Before Figures        `json:"before"`
	After  Figures        `json:"after"`
	// Reason says why there is no move, or why there are no more; empty when all
	// that the goal asks for is done.
	Reason string `json:"reason,omitempty"`
}

// Move takes one replica to another node. Where the moves before it are done,
// every filter lets the node pass.
type Move struct {
	Placement Placement `json:"-"`
	ID        string    `json:"id"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	Cause     string    `json:"cause"`
	// Gain is by how much it lowers the squared use, in millionths of a fully
	// used node. It is 0 for moves that empty a node.
	Gain int64 `json:"gain,omitempty"`
}

// FixedReplica is one that was not to be moved, and why.
type FixedReplica struct {
	ID     string `json:"id"`
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// Figures describe how evenly, and how many, nodes are used. Nodes that are down
// do not count.
type Figures struct {
	// SquaredUse is the sum over nodes and resources of the square of the used
	// fraction, weighed by how large the node is against the mean, in millionths:
	// a node of mean size that is fully used in one resource counts 1,000,000.
	// It is least when every node is used to the same fraction.
	SquaredUse int64 `json:"squaredUse"`
	InUse      int   `json:"inUse"` // nodes that hold replicas
}

// Rebalance proposes moves toward the goal. It changes nothing.
//
// For balance, each move lowers [Figures.SquaredUse] by at least the set gain,
// so that moves come to an end and none is the reverse of another. For
// consolidation, the emptiest nodes are emptied, each as a whole or not at all,
// into nodes that hold replicas already; no emptied node receives any. For both,
// replicas of lower priority go first, each moves at most once, never more move
// than the budget allows, and a replica stays if others that must be near to it
// would be left behind.
//
// Unless the budget cut the proposal short, carrying it out leaves nothing that
// a second one would move. Where no such proposal is found it proposes nothing
// and says so.
func Rebalance(c *Cluster, r Rebalancing) (Rebalanced, error) {
	if err := r.check(); err != nil {
		return Rebalanced{}, fmt.Errorf("rebalance: %w", err)
	}
	if r.MinGain == 0 {
		r.MinGain = DefaultMinGain
	}
	p := &planner{cluster: c, Rebalancing: r}
	d := p.draft()
	out := Rebalanced{Fixed: d.fixed(), Before: d.figures()}
	p.budget = r.Budget.of(len(d.items))
	if p.budget == 0 && len(d.items) > 0 {
		out.After, out.Reason = out.Before, fmt.Sprintf("the budget allows no move of %d replicas", len(d.items))
		return out, nil
	}
	var done *draft
	if r.Goal == GoalConsolidate {
		done, out.Reason = p.consolidate(d)
	} else {
		done, out.Reason = p.balance(d)
	}
	out.Moves, out.After = done.moves, done.figures()
	if len(out.Moves) == 0 && out.Reason == "" {
		out.Reason = p.nothing()
	}
	return out, nil
}

func (r Rebalancing) check() error {
	switch r.Goal {
	case GoalBalance, GoalConsolidate, "":
	default:
		return fmt.Errorf("goal %q is neither %s nor %s", string(r.Goal), GoalBalance, GoalConsolidate)
	}
	if r.MinGain < 0 {
		return fmt.Errorf("least gain %d: it must not be negative", r.MinGain)
	}
	return r.Budget.check()
}

// planner makes one proposal.
type planner struct {
	Rebalancing
	cluster *Cluster
	budget  int // moves
}

// draft is a fresh copy of the cluster to move replicas in.
func (p *planner) draft() *draft { return newDraft(p.cluster, p.Fixed, p.MinGain) }

// spent is the reason of a proposal that the budget cut short.
func (p *planner) spent() string {
	return fmt.Sprintf("the budget of %s is used up", plural(p.budget, "move"))
}

// nothing is the reason of a proposal without moves where none is to be made.
func (p *planner) nothing() string {
	if p.Goal == GoalConsolidate {
		return "no node can be emptied"
	}
	return fmt.Sprintf("no move would lower the squared use by %d millionths of a node", p.MinGain)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
