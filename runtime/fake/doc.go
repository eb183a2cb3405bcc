// Package fake is an engine in memory, for tests: it satisfies the whole
// contract of package enginetest, runs scripted workloads in place of
// processes, and fails on demand in the ways real engines do.
//
// It opens no socket and touches no file. All its waiting is on channels and on
// timers of package time, so that inside a testing/synctest bubble an hour of
// backoff passes at once. The engine must be made inside the bubble, and
// [Engine.Close] ends every goroutine it started.
//
// Invariants:
//   - what is legal is asked of runtime's transition table, nowhere restated;
//   - a lock is never held while waiting;
//   - an object's labels never change.
package fake
