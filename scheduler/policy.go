package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The names of the scores.
const (
	LeastAllocated           = "leastAllocated"           // the more room is left, the better
	MostAllocated            = "mostAllocated"            // the less room is left, the better
	RequestedToCapacityRatio = "requestedToCapacityRatio" // by the line of Policy.Ratio
	BalancedAllocation       = "balancedAllocation"       // cpu and memory used alike
	SpreadPreference         = "spreadPreference"         // placement.preferences
	NodeAffinity             = "nodeAffinity"             // preferred node terms
	ServiceAffinity          = "serviceAffinity"          // preferred affinity and anti-affinity
	Taints                   = "taints"                   // taints PreferNoSchedule
	TopologySpread           = "topologySpread"           // spread rules that only prefer
)

// The scores by index.
const (
	scoreLeast = iota
	scoreMost
	scoreRatio
	scoreBalanced
	scorePreference
	scoreNodeAffinity
	scoreServiceAffinity
	scoreTaints
	scoreTopology
	scoreKinds
)

var scoreNames = [scoreKinds]string{
	LeastAllocated, MostAllocated, RequestedToCapacityRatio, BalancedAllocation,
	SpreadPreference, NodeAffinity, ServiceAffinity, Taints, TopologySpread,
}

// ScoreNames lists the scores in the order in which they are reported.
func ScoreNames() []string { return slices.Clone(scoreNames[:]) }

// maxWeight bounds a weight, so that no sum of scores overflows.
const maxWeight = 1_000_000

type weights [scoreKinds]int64

// common weighs what every strategy shares: the default profile of Kubernetes,
// and above all of it together the preferences, which Swarm looks at first.
func common() weights {
	return weights{
		scorePreference: 100, scoreTaints: 3, scoreNodeAffinity: 2,
		scoreServiceAffinity: 2, scoreTopology: 2,
	}
}

// policy is a Policy that has been checked, ready for use.
type policy struct {
	weights     weights
	resources   amounts // weight of each resource in the resource scores
	ratio       []RatioPoint
	sharedPorts bool
}

// compile checks the policy.
func (p Policy) compile() (policy, error) {
	out := policy{sharedPorts: p.SharedPorts, resources: amounts{cpu: 1, memory: 1}}
	var err error
	if out.weights, err = p.weights(); err != nil {
		return policy{}, err
	}
	if len(p.Resources) > 0 {
		if err := named(out.resources[:], resourceNames[:], p.Resources, "resource"); err != nil {
			return policy{}, err
		}
	}
	out.ratio, err = p.line()
	return out, err
}

func (p Policy) weights() (weights, error) {
	w := common()
	switch p.Strategy {
	case StrategySpread, "":
		w[scoreLeast], w[scoreBalanced] = 1, 1
	case StrategyBinpack:
		w[scoreMost] = 1
	case StrategyBalanced:
		w[scoreLeast], w[scoreBalanced] = 1, 10
	default:
		return w, fmt.Errorf("strategy %q is none of %s, %s and %s", string(p.Strategy), StrategySpread, StrategyBinpack, StrategyBalanced)
	}
	if len(p.Weights) == 0 {
		return w, nil
	}
	return w, named(w[:], scoreNames[:], p.Weights, "score")
}

// named replaces all weights by those that are given by name.
func named(weights []int64, names []string, given map[string]int, what string) error {
	clear(weights)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		i := slices.Index(names, name)
		if i < 0 {
			return fmt.Errorf("weights name the %s %q, which is none of %s", what, name, strings.Join(names, ", "))
		}
		if given[name] < 0 || given[name] > maxWeight {
			return fmt.Errorf("the weight of %s is %d, not within 0 to %d", name, given[name], maxWeight)
		}
		weights[i] = int64(given[name])
	}
	if !slices.ContainsFunc(weights, func(w int64) bool { return w > 0 }) {
		return fmt.Errorf("no %s has a weight above zero", what)
	}
	return nil
}

func (p Policy) line() ([]RatioPoint, error) {
	if len(p.Ratio) == 0 {
		return []RatioPoint{{0, 0}, {100, 100}}, nil
	}
	for i, at := range p.Ratio {
		if at.Utilization < 0 || at.Utilization > 100 || at.Score < 0 || at.Score > 100 {
			return nil, fmt.Errorf("ratio point %d: utilization %d and score %d must be within 0 to 100", i+1, at.Utilization, at.Score)
		}
		if i > 0 && at.Utilization <= p.Ratio[i-1].Utilization {
			return nil, fmt.Errorf("ratio point %d: utilization %d must be above that of the point before it, %d", i+1, at.Utilization, p.Ratio[i-1].Utilization)
		}
	}
	return slices.Clone(p.Ratio), nil
}
