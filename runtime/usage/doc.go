// Package usage reads what containers use: CPU time, memory, and what they moved
// over networks and block devices.
//
// [Reader] reads the kernel's own counters where this process sees them, which
// costs a few short reads a container and no call to the engine. It finds a
// container's cgroups, once for each of its runs, by the cgroups of its main
// process, so that it makes no difference which driver the engine uses, under
// which parent a container runs, and whether the machine has cgroup v1, v2 or
// both. Of all other containers the engine is asked, of a few at a time.
//
// Invariants:
//   - a process counts as a container's only while its cgroup carries the
//     container's whole ID: the number of a process on another machine, or of one
//     that has ended, leads to nobody else's counters;
//   - the figures mean what the engine's mean, so that two samples of one run
//     may come from either;
//   - nothing is kept open that keeps a container's network alive.
package usage
