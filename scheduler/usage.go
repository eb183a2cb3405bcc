package scheduler

import "maps"

// Usage is what a node, or the whole cluster, has of each resource. A resource
// that a node does not count is 0 in Capacity and Reserved, and still counted in
// Used.
type Usage struct {
	Node     string    `json:"node,omitempty"` // empty: the whole cluster
	Replicas int       `json:"replicas"`
	Capacity Resources `json:"capacity"`
	Reserved Resources `json:"reserved,omitzero"` // of the capacity, never promised
	Used     Resources `json:"used"`              // promised to replicas
}

// NodeUsage returns the use of the named node.
func (c *Cluster) NodeUsage(name string) (Usage, bool) {
	n, ok := c.byName[name]
	if !ok {
		return Usage{}, false
	}
	return n.usage(), true
}

func (n *node) usage() Usage {
	used := n.used.resources()
	used.Generic = maps.Clone(n.generic)
	return Usage{
		Node: n.Name, Replicas: len(n.slots), Used: used,
		Capacity: n.Capacity.clone(), Reserved: n.Reserved.clone(),
	}
}

// Utilization returns the sum over all nodes that are not down.
func (c *Cluster) Utilization() Usage {
	var sum Usage
	for n := range c.each() {
		if n.Down {
			continue
		}
		u := n.usage()
		sum.Replicas += u.Replicas
		sum.Capacity.add(u.Capacity)
		sum.Reserved.add(u.Reserved)
		sum.Used.add(u.Used)
	}
	return sum
}

func (r *Resources) add(o Resources) {
	r.CPU += o.CPU
	r.Memory += o.Memory
	r.Disk += o.Disk
	r.Network += o.Network
	for name, v := range o.Generic {
		if r.Generic == nil {
			r.Generic = map[string]int64{}
		}
		r.Generic[name] += v
	}
}

func (r Resources) clone() Resources {
	r.Generic = maps.Clone(r.Generic)
	return r
}
