// Package simulate tries a policy out: it lets [scaling.Decide] follow a trace of
// what a service was asked to do, and tells how many replicas that took and how
// long they were too few. It also decides again what was recorded of a real run.
//
// The model is simple: work is spread evenly over the replicas that are ready,
// what is decided begins at once, and a new replica is ready after a delay. Time
// is that of the trace; nothing here reads a clock.
package simulate
