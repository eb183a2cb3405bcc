// Package peer tells which process of this machine is an engine's: the one that
// listens at its socket.
package peer
