// Package docker drives a real Docker Engine. It is the only package of Berth
// that speaks the Docker SDK; everything it returns is a value of package
// runtime.
//
// How a container is described to the engine is decided by pure functions
// (translate*.go, convert.go, sample.go) that do no I/O; the methods of
// [Engine] only carry values to the engine and back.
//
// Invariants:
//   - every error is a *runtime.Error of one of the four kinds, without noise of
//     the SDK and with the endpoint when the engine could not be reached;
//   - every call that is not a stream ends within a deadline of its own;
//   - creating, starting, stopping, removing and listing cost one call each in
//     the ordinary case; whatever more is asked is asked after a failure;
//   - a field that the engine's API version does not know is an error that names
//     the field, never silence;
//   - nothing is disconnected or removed that the caller did not name, except
//     endpoints of stopped containers of the same stack when its network goes.
package docker
