// Package inside reaches into containers from the machine of their engine, where
// this process may: it connects from within their network namespaces, and ends
// processes that an engine has no call for.
//
//	place := inside.Find(info)
//	if place.Enter {
//		conn, err := inside.Dial(ctx, container, pid, "127.0.0.1:8080")
//		…
//	}
//
// Invariants:
//   - nothing is done to a process whose cgroup is not the container's;
//   - no thread stays in a foreign namespace.
package inside

import "errors"

// Place is where this process is, as an engine's containers see it.
type Place struct {
	// Reachable: the containers' bridges are part of this process's network.
	Reachable bool
	// Enter: their network namespaces can be entered and their processes be ended.
	Enter bool
	Why   string // why Enter is false
}

// ErrGone says that a process is not, or no longer, of the container that it was
// looked for in.
var ErrGone = errors.New("its process is gone")
