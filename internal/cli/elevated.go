package cli

import (
	"path"
	"strings"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// elevation is a wish of a service for more than an ordinary container gets.
type elevation struct {
	Service string `json:"service"`
	Asks    string `json:"asks"` // "privileged", "network_mode: host", …
}

// elevations lists what services ask for beyond an ordinary container, in the
// file's order: whoever runs the stack should know.
func elevations(services []*stack.Service) []elevation {
	var list []elevation
	for _, s := range services {
		for _, ask := range elevated(&s.Spec) {
			list = append(list, elevation{Service: s.Name, Asks: ask})
		}
	}
	return list
}

func elevated(s *runtime.Spec) []string {
	var asks []string
	if s.Privileged {
		asks = append(asks, "privileged")
	}
	for _, ns := range []struct{ key, value string }{
		{"network_mode", s.NetworkMode}, {"pid", s.PidMode}, {"ipc", s.IpcMode}, {"uts", s.UTSMode},
		{"userns_mode", s.UsernsMode}, {"cgroup", s.CgroupNS},
	} {
		if ns.value == "host" {
			asks = append(asks, ns.key+": host")
		}
	}
	for _, c := range s.CapAdd {
		asks = append(asks, "cap_add: "+c)
	}
	for _, o := range s.SecurityOpt {
		if !strings.HasPrefix(o, "no-new-privileges") {
			asks = append(asks, "security_opt: "+firstWord(o))
		}
	}
	for _, d := range s.Devices {
		asks = append(asks, "devices: "+d.Source)
	}
	for _, d := range s.DeviceRequests {
		asks = append(asks, "device request: "+strings.Join(d.Capabilities, ","))
	}
	for _, m := range s.Mounts {
		if m.Type == runtime.MountBind && sensitive(m.Source) {
			asks = append(asks, "mount: "+m.Source)
		}
	}
	return asks
}

// firstWord cuts a security option before its content: a seccomp profile is long.
func firstWord(s string) string {
	if i := strings.IndexAny(s, "{\n"); i >= 0 {
		return s[:i] + "…"
	}
	return s
}

// sensitive reports a host path that gives power over the host: its root, its
// devices and kernel, its accounts, or the engine's socket.
func sensitive(source string) bool {
	source = path.Clean(source)
	for _, p := range []string{"/", "/etc", "/dev", "/proc", "/sys", "/boot", "/root", "/var/lib/docker"} {
		if source == p {
			return true
		}
	}
	return strings.HasSuffix(source, "/docker.sock") || strings.HasSuffix(source, "/containerd.sock") ||
		source == "/run" || source == "/var/run"
}
