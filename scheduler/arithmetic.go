package scheduler

import "maps"

// Plus returns the sum, which shares nothing with either.
func (r Resources) Plus(o Resources) Resources {
	sum := r.clone()
	sum.add(o)
	return sum
}

// Minus returns the difference, which may be negative and shares nothing with
// either.
func (r Resources) Minus(o Resources) Resources {
	o = Resources{CPU: -o.CPU, Memory: -o.Memory, Disk: -o.Disk, Network: -o.Network, Generic: maps.Clone(o.Generic)}
	for name := range o.Generic {
		o.Generic[name] = -o.Generic[name]
	}
	return r.Plus(o)
}
