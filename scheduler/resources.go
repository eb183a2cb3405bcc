package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Resources is an amount of each resource: what a node can promise, or what a
// replica asks to have promised. All amounts are integers, so the same input
// leads to the same node on every machine.
//
// In a capacity, zero of CPU, Memory, Disk or Network means that the node does
// not count that resource: any request for it fits. A generic resource that a
// capacity does not name does not exist there.
type Resources struct {
	CPU     int64            `json:"cpu,omitempty"`     // millicores
	Memory  int64            `json:"memory,omitempty"`  // bytes
	Disk    int64            `json:"disk,omitempty"`    // bytes
	Network int64            `json:"network,omitempty"` // bits per second
	Generic map[string]int64 `json:"generic,omitempty"` // pieces, by name
}

// The names of the resources that every node may count.
const (
	CPU     = "cpu"
	Memory  = "memory"
	Disk    = "disk"
	Network = "network"
)

// The most that one amount may be. A sum of 8,000 of the largest still fits.
const (
	MaxCPU    = 1_000_000_000 // millicores: a million cores
	MaxAmount = 1 << 50       // of anything else: a pebibyte
)

// The resources that every node may count, as indices of an [amounts].
const (
	cpu = iota
	memory
	disk
	network
	resourceKinds
)

var resourceNames = [resourceKinds]string{CPU, Memory, Disk, Network}

// amounts is the counted part of a Resources by index.
type amounts [resourceKinds]int64

func (r Resources) amounts() amounts {
	return amounts{cpu: r.CPU, memory: r.Memory, disk: r.Disk, network: r.Network}
}

func (a amounts) resources() Resources {
	return Resources{CPU: a[cpu], Memory: a[memory], Disk: a[disk], Network: a[network]}
}

// check returns what is wrong with an amount: below zero, or beyond all measure.
func (r Resources) check() error {
	for i, v := range r.amounts() {
		most := int64(MaxAmount)
		if i == cpu {
			most = MaxCPU
		}
		if err := checkAmount(resourceNames[i], v, most); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Generic)) {
		if name == "" {
			return fmt.Errorf("a generic resource has no name")
		}
		if err := checkAmount(name, r.Generic[name], MaxAmount); err != nil {
			return err
		}
	}
	return nil
}

func checkAmount(name string, v, most int64) error {
	switch {
	case v < 0:
		return fmt.Errorf("%s is %d: it must not be negative", name, v)
	case v > most:
		return fmt.Errorf("%s is %d: the most that can be counted is %d", name, v, most)
	}
	return nil
}

// FormatAmount writes an amount of the named resource as Compose files do: cpus
// as a decimal, bytes with K, M, G or T of 1024, bits per second with those of
// 1000, pieces as they are. It cuts off what is below a tenth of the unit.
func FormatAmount(resource string, v int64) string {
	switch resource {
	case CPU:
		return decimal(v, 1000, 3)
	case Memory, Disk:
		return scaled(v, 1024)
	case Network:
		return scaled(v, 1000)
	}
	return strconv.FormatInt(v, 10)
}

// scaled writes v in the largest unit that it holds one of.
func scaled(v, base int64) string {
	unit, suffix := int64(1), ""
	for _, s := range []string{"K", "M", "G", "T", "P"} {
		if v/unit < base {
			break
		}
		unit, suffix = unit*base, s
	}
	if suffix == "" && base == 1024 && v != 0 {
		suffix = "B"
	}
	return decimal(v, unit, 1) + suffix
}

// decimal writes v/unit with at most so many digits after the point, cut off.
func decimal(v, unit int64, digits int) string {
	whole, rest := v/unit, v%unit
	text := strconv.FormatInt(whole, 10)
	frac := ""
	for range digits {
		rest *= 10
		frac += strconv.FormatInt(rest/unit, 10)
		rest %= unit
	}
	if frac = strings.TrimRight(frac, "0"); frac == "" {
		return text
	}
	return text + "." + frac
}
