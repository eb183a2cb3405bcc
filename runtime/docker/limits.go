package docker

import (
	"errors"
	"fmt"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"

	"github.com/berth-dev/berth/runtime"
)

// The engine takes a zero in an update as "leave it", so a limit is lifted by
// a value that limits nothing. Each is one that nobody would declare, so that
// it reads back as "none" without doubt.
const (
	noMemory        = 1 << 62      // bytes; page-aligned, above any machine
	noReservationV1 = -1           // soft_limit_in_bytes
	noReservationV2 = 6<<20 + 4096 // the engine takes no less than 6 MiB; protects next to nothing
	noSharesV1      = 1025         // the default weight is 1024
	noSharesV2      = 2598         // becomes cpu.weight 100, the default
	noBlkioV1       = 499          // the default weight is 500
	noBlkioV2       = 101          // the default weight is 100
)

func noNanoCPUs(cpus int) int64 { return int64(cpus)*1e9 - 1 }

func noCPUSet(cpus int) string { return fmt.Sprintf("0-%d,0", cpus-1) }

// resources are all limits, as creation sets them.
func resources(s *runtime.Spec) container.Resources {
	l, f := s.Limits, s.Fixed
	r := container.Resources{
		CPUShares: l.CPUShares, Memory: l.Memory, NanoCPUs: l.NanoCPUs, CgroupParent: f.CgroupParent,
		BlkioWeight: l.BlkioWeight, CPUPeriod: l.CPUPeriod, CPUQuota: l.CPUQuota,
		CPURealtimePeriod: l.CPURTPeriod, CPURealtimeRuntime: l.CPURTRuntime,
		CpusetCpus: l.CPUSetCPUs, CpusetMems: l.CPUSetMems,
		DeviceCgroupRules: s.CgroupRules, MemoryReservation: l.MemoryReservation, MemorySwap: l.MemorySwap,
		MemorySwappiness: f.MemorySwappiness, CPUCount: f.CPUCount, CPUPercent: f.CPUPercent,
		BlkioDeviceReadBps: throttles(f.BlkioReadBps), BlkioDeviceWriteBps: throttles(f.BlkioWriteBps),
		BlkioDeviceReadIOps: throttles(f.BlkioReadIOps), BlkioDeviceWriteIOps: throttles(f.BlkioWriteIOps),
		Ulimits: ulimits(f.Ulimits),
	}
	if l.Pids != 0 {
		r.PidsLimit = &l.Pids
	}
	if f.OomKillDisable {
		r.OomKillDisable = &f.OomKillDisable
	}
	for _, w := range f.BlkioWeightDevice {
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, &blkiodev.WeightDevice{Path: w.Path, Weight: w.Weight})
	}
	for _, d := range s.Devices {
		m := container.DeviceMapping{PathOnHost: d.Source, PathInContainer: d.Target, CgroupPermissions: d.Permissions}
		if m.PathInContainer == "" {
			m.PathInContainer = d.Source
		}
		if m.CgroupPermissions == "" {
			m.CgroupPermissions = "rwm"
		}
		r.Devices = append(r.Devices, m)
	}
	for _, d := range s.DeviceRequests {
		req := container.DeviceRequest{Driver: d.Driver, Count: d.Count, DeviceIDs: d.IDs, Options: d.Options}
		if len(d.Capabilities) > 0 {
			req.Capabilities = [][]string{d.Capabilities}
		}
		r.DeviceRequests = append(r.DeviceRequests, req)
	}
	return r
}

func throttles(in []runtime.ThrottleDevice) []*blkiodev.ThrottleDevice {
	var out []*blkiodev.ThrottleDevice
	for _, d := range in {
		out = append(out, &blkiodev.ThrottleDevice{Path: d.Path, Rate: d.Rate})
	}
	return out
}

func ulimits(in []runtime.Ulimit) []*container.Ulimit {
	var out []*container.Ulimit
	for _, u := range in {
		out = append(out, &units.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out
}

// limitsOf reads limits back; values that limit nothing read as zero.
func limitsOf(r container.Resources) runtime.Limits {
	l := runtime.Limits{
		NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota,
		CPURTPeriod: r.CPURealtimePeriod, CPURTRuntime: r.CPURealtimeRuntime,
		CPUSetCPUs: r.CpusetCpus, CPUSetMems: r.CpusetMems,
		Memory: r.Memory, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap,
		Pids: deref(r.PidsLimit), BlkioWeight: r.BlkioWeight,
	}
	if l.NanoCPUs%1e9 == 1e9-1 {
		l.NanoCPUs = 0
	}
	if l.CPUShares == noSharesV1 || l.CPUShares == noSharesV2 {
		l.CPUShares = 0
	}
	if l.CPUQuota < 0 {
		l.CPUQuota = 0
	}
	if liftedCPUSet(l.CPUSetCPUs) {
		l.CPUSetCPUs = ""
	}
	if l.MemorySwap >= noMemory {
		l.MemorySwap = -1
	}
	if l.Memory >= noMemory {
		l.Memory, l.MemorySwap = 0, 0
	}
	if l.MemoryReservation < 0 || l.MemoryReservation == noReservationV2 {
		l.MemoryReservation = 0
	}
	if l.BlkioWeight == noBlkioV1 || l.BlkioWeight == noBlkioV2 {
		l.BlkioWeight = 0
	}
	return l
}

func liftedCPUSet(s string) bool {
	var last int
	n, err := fmt.Sscanf(s, "0-%d,0", &last)
	return err == nil && n == 1 && s == noCPUSet(last+1)
}

// updateConfig says how the limits of a container are brought to want. have is
// what it has. Memory and swap change together, since the engine refuses a
// memory limit above the swap limit.
func updateConfig(have *container.HostConfig, want runtime.Limits, restart runtime.RestartPolicy, host machine) (container.UpdateConfig, error) {
	now := limitsOf(have.Resources)
	up := container.UpdateConfig{RestartPolicy: restartPolicy(restart)}
	if have.AutoRemove && restart.Active() {
		return up, errors.New("a container that removes itself cannot have a restart policy")
	}
	if err := updateCPU(&up.Resources, now, want, host); err != nil {
		return up, err
	}
	updateMemory(&up.Resources, now, want, host)
	if want.Pids != now.Pids && max(want.Pids, 0) != max(now.Pids, 0) {
		pids := want.Pids
		up.PidsLimit = &pids // 0 and -1: no limit
	}
	up.BlkioWeight = want.BlkioWeight
	if want.BlkioWeight == 0 && now.BlkioWeight != 0 {
		up.BlkioWeight = pick[uint16](host.cgroupV2, noBlkioV2, noBlkioV1)
	}
	return up, nil
}

func updateCPU(up *container.Resources, now, want runtime.Limits, host machine) error {
	lifted := func(name string, want, now int64) error {
		if want == 0 && now != 0 {
			return fmt.Errorf("%s cannot be lifted in place; it needs a new container", name)
		}
		return nil
	}
	if err := errors.Join(
		lifted("cpu_rt_period", want.CPURTPeriod, now.CPURTPeriod),
		lifted("cpu_rt_runtime", want.CPURTRuntime, now.CPURTRuntime),
		lifted("cpuset_mems", int64(len(want.CPUSetMems)), int64(len(now.CPUSetMems))),
	); err != nil {
		return err
	}
	switch {
	case want.NanoCPUs != 0 && (now.CPUPeriod != 0 || now.CPUQuota != 0), now.NanoCPUs != 0 && (want.CPUPeriod != 0 || want.CPUQuota != 0):
		return errors.New("the engine does not change between cpus and cpu_quota in place; it needs a new container")
	case want.NanoCPUs == 0 && now.NanoCPUs != 0:
		up.NanoCPUs = noNanoCPUs(host.cpus)
	default:
		up.NanoCPUs = want.NanoCPUs
	}
	up.CPUPeriod, up.CPUQuota = want.CPUPeriod, want.CPUQuota
	if want.CPUQuota == 0 && now.CPUQuota != 0 {
		up.CPUQuota = -1
	}
	if want.CPUPeriod == 0 && now.CPUPeriod != 0 {
		return errors.New("cpu_period cannot be lifted in place; it needs a new container")
	}
	up.CPUShares = want.CPUShares
	if want.CPUShares == 0 && now.CPUShares != 0 {
		up.CPUShares = pick[int64](host.cgroupV2, noSharesV2, noSharesV1)
	}
	up.CPURealtimePeriod, up.CPURealtimeRuntime = want.CPURTPeriod, want.CPURTRuntime
	up.CpusetCpus, up.CpusetMems = want.CPUSetCPUs, want.CPUSetMems
	if want.CPUSetCPUs == "" && now.CPUSetCPUs != "" {
		up.CpusetCpus = noCPUSet(host.cpus)
	}
	return nil
}

func updateMemory(up *container.Resources, now, want runtime.Limits, host machine) {
	switch {
	case want.Memory != 0:
		up.Memory, up.MemorySwap = want.Memory, want.MemorySwap
		switch want.MemorySwap {
		case 0:
			up.MemorySwap = 2 * want.Memory // as the engine chooses at creation
		case -1:
			up.MemorySwap = noMemory // the engine does not pass -1 on in an update
		}
	case now.Memory != 0:
		up.Memory, up.MemorySwap = noMemory, noMemory
	}
	up.MemoryReservation = want.MemoryReservation
	if want.MemoryReservation == 0 && now.MemoryReservation != 0 {
		up.MemoryReservation = pick[int64](host.cgroupV2, noReservationV2, noReservationV1)
	}
}

func pick[T any](second bool, ifSo, otherwise T) T {
	if second {
		return ifSo
	}
	return otherwise
}
