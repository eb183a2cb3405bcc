package reconcile

import "github.com/berth-dev/berth/runtime"

// limitsDiff names the limits in which a container differs from what is
// declared, under the names the Compose file has for them. What the file leaves
// open and the engine fills in (swap as twice the memory) is no difference.
func limitsDiff(want, have runtime.Limits) []string {
	var diff []string
	add := func(differs bool, name string) {
		if differs {
			diff = append(diff, name)
		}
	}
	add(want.NanoCPUs != have.NanoCPUs, "cpus")
	add(want.CPUShares != have.CPUShares, "cpu_shares")
	add(want.CPUPeriod != have.CPUPeriod, "cpu_period")
	add(want.CPUQuota != have.CPUQuota, "cpu_quota")
	add(want.CPURTPeriod != have.CPURTPeriod, "cpu_rt_period")
	add(want.CPURTRuntime != have.CPURTRuntime, "cpu_rt_runtime")
	add(want.CPUSetCPUs != have.CPUSetCPUs, "cpuset")
	add(want.CPUSetMems != have.CPUSetMems, "cpuset_mems")
	add(want.Memory != have.Memory, "memory")
	add(want.MemoryReservation != have.MemoryReservation, "mem_reservation")
	add(want.MemorySwap != 0 && want.MemorySwap != have.MemorySwap, "memswap_limit")
	add(max(want.Pids, 0) != max(have.Pids, 0), "pids_limit")
	add(want.BlkioWeight != have.BlkioWeight, "blkio_config.weight")
	return diff
}

// normalPolicy gives the two spellings of "no" one.
func normalPolicy(p runtime.RestartPolicy) runtime.RestartPolicy {
	if !p.Active() {
		return runtime.RestartPolicy{Name: "no"}
	}
	if p.Name != "on-failure" {
		p.MaxRetries = 0
	}
	return p
}
