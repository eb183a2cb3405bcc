package scheduler

// Template is what every replica of one service asks of its node.
type Template struct {
	Stack       string    `json:"stack"`
	Service     string    `json:"service"`
	Reservation Resources `json:"reservation,omitzero"`
	// Priority: replicas of a higher one may displace those of a lower one.
	Priority int          `json:"priority,omitempty"`
	Ports    []HostPort   `json:"ports,omitempty"` // that each replica holds on its node
	OS       string       `json:"os,omitempty"`    // empty: any
	Arch     string       `json:"arch,omitempty"`
	Tolerate []Toleration `json:"tolerate,omitempty"`

	Constraints  []Constraint  `json:"constraints,omitempty"`  // all must hold
	NodeSelector []Requirement `json:"nodeSelector,omitempty"` // all must hold
	NodeRequired []NodeTerm    `json:"nodeRequired,omitempty"` // one must match; empty: any node
	NodePrefer   []NodeTerm    `json:"nodePrefer,omitempty"`   // by Weight
	Preferences  []string      `json:"preferences,omitempty"`  // placement.preferences: label keys to spread over, the first weighs most
	MaxPerNode   int           `json:"maxPerNode,omitempty"`   // of this service; 0: no limit
	Affinity     []ServiceTerm `json:"affinity,omitempty"`     // required: near to each of them
	AffinityLike []ServiceTerm `json:"affinityLike,omitempty"` // preferred, by Weight
	Anti         []ServiceTerm `json:"anti,omitempty"`         // required: near to none of them
	AntiLike     []ServiceTerm `json:"antiLike,omitempty"`     // preferred, by Weight
	Spread       []SpreadRule  `json:"spread,omitempty"`
}

// HostPort is a port of the host that a replica holds by itself.
type HostPort struct {
	IP       string `json:"ip,omitempty"` // empty: all addresses
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol,omitempty"` // empty: tcp
}

// Operator compares a node's label with values.
type Operator string

// The operators of node requirements, as Kubernetes has them. Gt and Lt compare
// whole numbers with the one value given; a label that is no number never matches.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn" // also when the label is missing
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
	Gt           Operator = "Gt"
	Lt           Operator = "Lt"
)

// Requirement is a condition on one label of a node.
type Requirement struct {
	Key      string   `json:"key"`
	Operator Operator `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

// NodeTerm matches a node when all its requirements hold; a term without any
// matches none. Weight, 1..100, counts for preferred terms only.
type NodeTerm struct {
	Requirements []Requirement `json:"requirements"`
	Weight       int           `json:"weight,omitempty"`
}

// ServiceTerm names services of the same stack, and the domain in which their
// replicas are near: all nodes with the same value of the label TopologyKey.
// Empty means the node itself; a node without the label is in no domain.
type ServiceTerm struct {
	Services    []string `json:"services"`
	TopologyKey string   `json:"topologyKey,omitempty"`
	Weight      int      `json:"weight,omitempty"` // 1..100, for preferred terms
}

// SpreadRule keeps the counts of a service's replicas in the domains of a label
// close to each other, as topologySpreadConstraints of Kubernetes do.
type SpreadRule struct {
	TopologyKey string `json:"topologyKey"`          // empty or "node": each node is a domain
	MaxSkew     int    `json:"maxSkew"`              // at least 1
	MinDomains  int    `json:"minDomains,omitempty"` // with fewer domains the smallest count is taken as 0
	Prefer      bool   `json:"prefer,omitempty"`     // only a score, not a filter (whenUnsatisfiable: schedule)
}

// Strategy says what a good node is.
type Strategy string

// The strategies a stack may pick.
const (
	StrategySpread   Strategy = "spread"   // the emptiest node; the default
	StrategyBinpack  Strategy = "binpack"  // the fullest node that has room
	StrategyBalanced Strategy = "balanced" // the node whose resources come to be used most evenly
)

// Policy is how nodes are scored.
type Policy struct {
	Strategy Strategy `json:"strategy,omitempty"`
	// Weights, by the name of the score (see [ScoreNames]), replace those of the
	// strategy; a score that is not named does not count.
	Weights map[string]int `json:"weights,omitempty"`
	// Resources weighs the resources in leastAllocated, mostAllocated and
	// requestedToCapacityRatio: cpu, memory, disk, network. None: cpu 1, memory 1.
	Resources map[string]int `json:"resources,omitempty"`
	// Ratio is the line of requestedToCapacityRatio. None: from 0 at 0 to 100 at 100.
	Ratio []RatioPoint `json:"ratio,omitempty"`
	// SharedPorts: all nodes are partitions of one host, so a host port that is
	// held on one of them is held on all.
	SharedPorts bool `json:"sharedPorts,omitempty"`
}

// RatioPoint says which score, 0..100, a resource gets that is used to so many
// percent. Between two points the score lies on the line that joins them.
type RatioPoint struct {
	Utilization int64 `json:"utilization"`
	Score       int64 `json:"score"`
}
