package cli

import (
	"errors"
	"fmt"
	"path"
	"slices"
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
func elevations(st *stack.Stack, services []*stack.Service) []elevation {
	var list []elevation
	for _, s := range services {
		asks := slices.Concat(elevated(&s.Spec), elevatedVolumes(st, &s.Spec), elevatedHooks("post_start", s.PostStart), elevatedHooks("pre_stop", s.PreStop))
		for i := range s.PreStart {
			for _, ask := range elevated(&s.PreStart[i].Spec) {
				if !slices.Contains(asks, ask) { // it has the service's own too
					asks = append(asks, fmt.Sprintf("pre_start.%d: %s", i, ask))
				}
			}
		}
		for _, ask := range asks {
			list = append(list, elevation{Service: s.Name, Asks: ask})
		}
	}
	return list
}

// denyElevated is the error of a request that is to have no elevated wishes and has some.
func denyElevated(stack string, list []elevation) error {
	if len(list) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "stack %s asks for more than an ordinary container gets, which --deny-elevated refuses; nothing was changed:", stack)
	for _, e := range list {
		fmt.Fprintf(&b, "\n  %s: %s", e.Service, sanitize(e.Asks))
	}
	return errors.New(b.String())
}

// elevatedHooks lists the hooks that run with every privilege.
func elevatedHooks(key string, hooks []stack.Hook) []string {
	var asks []string
	for i, h := range hooks {
		if h.Privileged {
			asks = append(asks, fmt.Sprintf("%s.%d: privileged", key, i))
		}
	}
	return asks
}

// elevatedVolumes lists the mounted volumes that stand for a host path or device
// which gives power over the host.
func elevatedVolumes(st *stack.Stack, s *runtime.Spec) []string {
	var asks []string
	for _, m := range s.Mounts {
		for i := range st.Volumes {
			if v := &st.Volumes[i].Spec; m.Type == runtime.MountVolume && m.Source == v.Name && sensitive(v.DriverOpts["device"]) {
				asks = append(asks, fmt.Sprintf("mount: %s, by the volume %s", v.DriverOpts["device"], st.Volumes[i].Key))
			}
		}
	}
	return asks
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
