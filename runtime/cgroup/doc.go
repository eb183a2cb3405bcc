// Package cgroup makes a virtual node a real boundary on the engine's machine: a
// cgroup whose CPU quota, memory limit and pids limit are the node's capacity, and
// under which the node's containers run.
//
// [Open] finds out how that can be done, in this order: this process writes the
// cgroups itself, or has systemd do so where the engine's cgroup driver is
// systemd; a small container of Berth's own program does (see [Serve]); not at all, and
// then a boundary says why it is not enforced.
//
// What is to be written, and what the kernel's files say, is worked out by pure
// functions for cgroup v1 and v2.
//
// Invariants:
//   - a cgroup is touched only below /berth/<owner> (or berth-<owner>.slice);
//   - a cgroup in which a process lives is never removed, and no process is ever
//     moved or killed by this package;
//   - a limit below what is in use is a Conflict, not a kill;
//   - what somebody else changed is set back, and reported.
package cgroup
