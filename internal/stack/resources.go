package stack

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/runtime"
)

// limits are what can be changed on a live container; deploy.resources wins
// over the older keys.
func limits(c types.ServiceConfig) runtime.Limits {
	l := runtime.Limits{
		NanoCPUs:          nanoCPUs(c.CPUS),
		CPUShares:         c.CPUShares,
		CPUPeriod:         c.CPUPeriod,
		CPUQuota:          c.CPUQuota,
		CPURTPeriod:       c.CPURTPeriod,
		CPURTRuntime:      c.CPURTRuntime,
		CPUSetCPUs:        c.CPUSet,
		Memory:            int64(c.MemLimit),
		MemoryReservation: int64(c.MemReservation),
		MemorySwap:        int64(c.MemSwapLimit),
		Pids:              c.PidsLimit,
	}
	if c.BlkioConfig != nil {
		l.BlkioWeight = c.BlkioConfig.Weight
	}
	if c.Deploy == nil {
		return l
	}
	if r := c.Deploy.Resources.Limits; r != nil {
		l.NanoCPUs = cmp.Or(nanoCPUs(float32(r.NanoCPUs)), l.NanoCPUs)
		l.Memory = cmp.Or(int64(r.MemoryBytes), l.Memory)
		l.Pids = cmp.Or(r.Pids, l.Pids)
	}
	if r := c.Deploy.Resources.Reservations; r != nil {
		l.MemoryReservation = cmp.Or(int64(r.MemoryBytes), l.MemoryReservation)
	}
	return l
}

// nanoCPUs rounds to a millionth of a core, so that 0.3 is not 300000012.
func nanoCPUs(cores float32) int64 {
	return int64(math.Round(float64(cores)*1e6)) * 1000
}

func (t *translator) fixed(c types.ServiceConfig) runtime.Fixed {
	f := runtime.Fixed{
		CgroupParent:   c.CgroupParent,
		ShmSize:        int64(c.ShmSize),
		Ulimits:        ulimits(c.Ulimits),
		OomKillDisable: c.OomKillDisable,
		CPUCount:       c.CPUCount,
		CPUPercent:     int64(c.CPUPercent),
	}
	if c.MemSwappiness != 0 {
		v := int64(c.MemSwappiness)
		f.MemorySwappiness = &v
	}
	b := c.BlkioConfig
	if b == nil {
		return f
	}
	for _, w := range b.WeightDevice {
		f.BlkioWeightDevice = append(f.BlkioWeightDevice, runtime.WeightDevice{Path: w.Path, Weight: w.Weight})
	}
	f.BlkioReadBps = throttles(b.DeviceReadBps)
	f.BlkioWriteBps = throttles(b.DeviceWriteBps)
	f.BlkioReadIOps = throttles(b.DeviceReadIOps)
	f.BlkioWriteIOps = throttles(b.DeviceWriteIOps)
	return f
}

func throttles(list []types.ThrottleDevice) []runtime.ThrottleDevice {
	var out []runtime.ThrottleDevice
	for _, d := range list {
		out = append(out, runtime.ThrottleDevice{Path: d.Path, Rate: uint64(max(d.Rate, 0))})
	}
	return out
}

func ulimits(m map[string]*types.UlimitsConfig) []runtime.Ulimit {
	var out []runtime.Ulimit
	for _, name := range slices.Sorted(maps.Keys(m)) {
		u := m[name]
		if u == nil {
			continue
		}
		soft, hard := u.Soft, u.Hard
		if u.Single != 0 {
			soft, hard = u.Single, u.Single
		}
		out = append(out, runtime.Ulimit{Name: name, Soft: int64(soft), Hard: int64(hard)})
	}
	return out
}

// devices are host devices, those asked of a driver by CDI name, gpus and
// deploy.resources.reservations.devices.
func devices(c types.ServiceConfig) ([]runtime.Device, []runtime.DeviceRequest) {
	var maps []runtime.Device
	var requests []runtime.DeviceRequest
	var cdi []string
	for _, d := range c.Devices {
		if isCDI(d.Source) {
			cdi = append(cdi, d.Source)
			continue
		}
		maps = append(maps, runtime.Device{Source: d.Source, Target: d.Target, Permissions: d.Permissions})
	}
	if len(cdi) > 0 {
		requests = append(requests, runtime.DeviceRequest{Driver: "cdi", IDs: cdi})
	}
	for _, g := range c.Gpus {
		r := deviceRequest(g)
		if !slices.Contains(r.Capabilities, "gpu") {
			r.Capabilities = append(slices.Clone(r.Capabilities), "gpu")
		}
		requests = append(requests, r)
	}
	if c.Deploy != nil && c.Deploy.Resources.Reservations != nil {
		for _, d := range c.Deploy.Resources.Reservations.Devices {
			requests = append(requests, deviceRequest(d))
		}
	}
	return maps, requests
}

// isCDI reports whether a device is a CDI name, such as nvidia.com/gpu=all.
func isCDI(source string) bool {
	vendor, name, ok := strings.Cut(source, "=")
	return ok && name != "" && !strings.HasPrefix(source, "/") && strings.Contains(vendor, "/")
}

func deviceRequest(d types.DeviceRequest) runtime.DeviceRequest {
	return runtime.DeviceRequest{Driver: d.Driver, Count: int(d.Count), IDs: d.IDs, Capabilities: d.Capabilities, Options: d.Options}
}

func (t *translator) security(spec *runtime.Spec, c types.ServiceConfig) error {
	spec.Privileged = c.Privileged
	spec.ReadOnly = c.ReadOnly
	spec.CapAdd = c.CapAdd
	spec.CapDrop = c.CapDrop
	for _, opt := range c.SecurityOpt {
		parsed, err := t.securityOpt(opt)
		if err != nil {
			return t.failIn(err, c.Name, "security_opt")
		}
		spec.SecurityOpt = append(spec.SecurityOpt, parsed)
	}
	return nil
}

// securityOpt writes an option as the engine takes it: key=value, and a
// seccomp profile as its content.
func (t *translator) securityOpt(opt string) (string, error) {
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		if opt == "no-new-privileges" {
			return opt, nil
		}
		if key, value, ok = strings.Cut(opt, ":"); !ok {
			return "", fmt.Errorf("%q is not an option: write key=value", clip(opt))
		}
	}
	if key != "seccomp" || value == "unconfined" || value == "builtin" {
		return key + "=" + value, nil
	}
	data, err := readRegular(joinDir(t.dir, value), maxContentFile)
	if err != nil {
		return "", fmt.Errorf("the seccomp profile %s: %w", clip(value), err)
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, data); err != nil {
		return "", fmt.Errorf("the seccomp profile %s is not JSON", clip(value))
	}
	return "seccomp=" + buf.String(), nil
}

func build(p *types.Project, c types.ServiceConfig) *runtime.Build {
	b := c.Build
	out := &runtime.Build{
		Context:          b.Context,
		Dockerfile:       b.Dockerfile,
		DockerfileInline: b.DockerfileInline,
		Args:             map[string]string{},
		Target:           b.Target,
		Tags:             []string{imageName(p, c)},
		Labels:           b.Labels,
		CacheFrom:        b.CacheFrom,
		NoCache:          b.NoCache,
		Pull:             b.Pull,
		Network:          b.Network,
		ExtraHosts:       slices.Sorted(slices.Values(b.ExtraHosts.AsList(":"))),
		ShmSize:          int64(b.ShmSize),
		Ulimits:          ulimits(b.Ulimits),
		Isolation:        b.Isolation,
		Platform:         buildPlatform(c),
	}
	for k, v := range b.Args {
		if v != nil {
			out.Args[k] = *v
		} else {
			out.UnsetArgs = append(out.UnsetArgs, k)
		}
	}
	slices.Sort(out.UnsetArgs)
	for _, tag := range b.Tags {
		if !slices.Contains(out.Tags, tag) {
			out.Tags = append(out.Tags, tag)
		}
	}
	return out
}

// buildPlatform is the one platform an engine builds: the service's, else the
// build's where it names a single one.
func buildPlatform(c types.ServiceConfig) string {
	if c.Platform == "" && len(c.Build.Platforms) == 1 {
		return c.Build.Platforms[0]
	}
	return c.Platform
}
