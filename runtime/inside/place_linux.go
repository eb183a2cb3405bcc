package inside

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/peer"
)

// Find says where this process is, as the containers of an engine see it. It
// takes an engine for local when a process of this machine listens at its socket,
// on the same kernel and in the same network namespace.
func Find(info runtime.EngineInfo) Place {
	socket, ok := strings.CutPrefix(info.Host, "unix://")
	if !ok {
		return Place{Why: fmt.Sprintf("the engine at %s is on another machine", info.Host)}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return Place{Why: err.Error()}
	}
	if here := strings.TrimSpace(string(kernel)); here != info.KernelVersion {
		return Place{Why: fmt.Sprintf("the engine runs on another kernel (%s) than this one (%s), as in a virtual machine", info.KernelVersion, here)}
	}
	pid, err := peer.Listener(socket)
	switch {
	case err != nil:
		return Place{Why: fmt.Sprintf("find the engine's process: %v", err)}
	case pid == 0:
		return Place{Why: "the engine's process is not to be seen here: one of both is in a container"}
	case info.Rootless:
		return Place{Why: "the engine is rootless, and its networks are in a namespace of its own"}
	}
	return beside(pid)
}

// beside says what can be done beside an engine's process.
func beside(pid int) Place {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil { // of another user
		_, bridge := net.InterfaceByName("docker0")
		return Place{Reachable: bridge == nil, Why: "the daemon does not run as root"}
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	p := Place{Reachable: err == nil && ours == theirs, Enter: os.Geteuid() == 0}
	if !p.Enter {
		p.Why = "the daemon does not run as root"
	}
	return p
}

// belongs says whether a process's cgroup is a container's.
func belongs(pid int, container string) bool {
	const wholeID = 64
	if len(container) != wholeID {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(b), container)
}
