// Package runtime is Berth's vocabulary for containers: their states and the
// operations that move them, the spec that creates one, the record an engine
// reports of one, the identity that labels carry, and the kinds of error an
// engine answers with.
//
// It holds values and pure functions only and imports nothing but the standard
// library, so that every other package can speak of containers without
// speaking of Docker. Engines live below it: runtime/docker drives a real
// Docker Engine, runtime/fake is an engine in memory, and runtime/enginetest
// holds the contract both satisfy.
//
// Invariants:
//   - the transition table is the only statement of what is legal; planner, fake,
//     documentation and contract suite are fed from it;
//   - labels are written and read in identity.go and nowhere else;
//   - an error from an engine has exactly one [Kind].
package runtime
