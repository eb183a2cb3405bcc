// Package scaling decides how much of a service there is to be: how many
// replicas, how large each, and whether any run at all.
//
// Everything in it is a value or a pure function: it starts nothing, waits for
// nothing, reads no clock and does no I/O. What decides takes the time as an
// argument, returns its reasons and the figures they rest on, and remembers in a
// state that reads back from JSON as it was written.
//
// [Decide] is the horizontal autoscaler of Kubernetes on figures that the caller
// has measured, which [UsageBetween] makes of raw samples. [Concurrency] follows
// the work under way within seconds, as Knative does, and [Idle] puts a service to
// rest that nobody uses. Below are, each a package of its own: what the time of
// day makes of a policy (timetable), how large a replica is to be (vertical), what
// will be needed soon (forecast), and trying a policy out on a trace (simulate).
//
// Invariants:
//   - the number decided is never outside the policy's minimum and maximum;
//   - figures that are missing never speed a change up, and where too little is
//     known nothing changes;
//   - a clock that jumps never gives a negative age: what lies in the future
//     counts as now;
//   - every state is bounded in size;
//   - equal arguments give an equal decision.
package scaling
