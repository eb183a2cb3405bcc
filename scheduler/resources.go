package scheduler

// Resources is an amount of each resource: what a node can promise, or what a
// replica asks to have promised. All amounts are integers, so the same input
// leads to the same node on every machine.
//
// In a capacity, zero of CPU, Memory, Disk or Network means that the node does
// not count that resource: any request for it fits. A generic resource that a
// capacity does not name does not exist there.
type Resources struct {
	CPU     int64            `json:"cpu,omitempty"`     // millicores
	Memory  int64            `json:"memory,omitempty"`  // bytes
	Disk    int64            `json:"disk,omitempty"`    // bytes
	Network int64            `json:"network,omitempty"` // bits per second
	Generic map[string]int64 `json:"generic,omitempty"` // pieces, by name
}
