package scaling_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scaling"
)

func TestUsageBetween(t *testing.T) {
	const second = uint64(time.Second)
	before := runtime.Stats{
		Time: noon, CPUNanos: 5 * second, SystemNanos: 1000 * second, OnlineCPUs: 2,
		Memory: 1 << 20, NetRx: 1000, NetTx: 1000, BlkRead: 1000, BlkWrite: 1000,
	}
	tests := []struct {
		name   string
		change func(prev, cur *runtime.Stats)
		want   scaling.Usage
		err    error
	}{
		{"half a core for ten seconds", func(_, _ *runtime.Stats) {},
			scaling.Usage{Window: 10 * time.Second, CPU: 500, Memory: 64 << 20, NetRx: 100, NetTx: 200, BlkRead: 300, BlkWrite: 400}, nil},
		{"the clock went back an hour", func(_, cur *runtime.Stats) { cur.Time = noon.Add(-time.Hour) },
			scaling.Usage{Window: 10 * time.Second, CPU: 500, Memory: 64 << 20, NetRx: 100, NetTx: 200, BlkRead: 300, BlkWrite: 400}, nil},
		{"the clock went on an hour", func(_, cur *runtime.Stats) { cur.Time = noon.Add(time.Hour) },
			scaling.Usage{Window: 10 * time.Second, CPU: 500, Memory: 64 << 20, NetRx: 100, NetTx: 200, BlkRead: 300, BlkWrite: 400}, nil},
		{"an engine that does not count the machine's time", func(prev, cur *runtime.Stats) { prev.SystemNanos, cur.SystemNanos = 0, 0 },
			scaling.Usage{Window: 10 * time.Second, CPU: 500, Memory: 64 << 20, NetRx: 100, NetTx: 200, BlkRead: 300, BlkWrite: 400}, nil},
		{"such a one, and the clock went back", func(prev, cur *runtime.Stats) {
			prev.SystemNanos, cur.SystemNanos, cur.Time = 0, 0, noon.Add(-time.Hour)
		}, scaling.Usage{}, scaling.ErrNoTimePassed},
		{"the same sample", func(prev, cur *runtime.Stats) { *cur = *prev }, scaling.Usage{}, scaling.ErrNoTimePassed},
		{"restarted", func(_, cur *runtime.Stats) { cur.CPUNanos = 1 }, scaling.Usage{}, scaling.ErrCountersReset},
		{"a network was left", func(_, cur *runtime.Stats) { cur.NetRx, cur.NetTx = 0, 0 },
			scaling.Usage{Window: 10 * time.Second, CPU: 500, Memory: 64 << 20, BlkRead: 300, BlkWrite: 400}, nil},
		{"a little rounds up", func(_, cur *runtime.Stats) { cur.CPUNanos = 5*second + 1 },
			scaling.Usage{Window: 10 * time.Second, CPU: 1, Memory: 64 << 20, NetRx: 100, NetTx: 200, BlkRead: 300, BlkWrite: 400}, nil},
		{"more than there is", func(_, cur *runtime.Stats) { cur.CPUNanos = math.MaxUint64 },
			scaling.Usage{Window: 10 * time.Second, CPU: 2000, Memory: 64 << 20, NetRx: 100, NetTx: 200, BlkRead: 300, BlkWrite: 400}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			prev := before
			cur := runtime.Stats{
				Time: noon.Add(10 * time.Second), CPUNanos: 10 * second, SystemNanos: 1020 * second, OnlineCPUs: 2,
				Memory: 64 << 20, NetRx: 2000, NetTx: 3000, BlkRead: 4000, BlkWrite: 5000,
			}
			tt.change(&prev, &cur)
			if tt.err == nil {
				tt.want.At = cur.Time
			}
			got, err := scaling.UsageBetween(prev, cur)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %+v %v, want %+v %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestUsageSample(t *testing.T) {
	u := scaling.Usage{At: noon, Window: time.Second, CPU: 5, Memory: 7}
	for resource, value := range map[string]int64{scaling.CPU: 5, scaling.Memory: 7} {
		want := scaling.Sample{Metric: resource, Value: value, Reservation: 9, At: noon, Window: time.Second}
		if got := u.Sample(resource, 9); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestWorkingSet(t *testing.T) {
	for _, tt := range [][3]uint64{{100, 30, 70}, {100, 0, 100}, {100, 100, 0}, {100, 101, 0}} {
		if got := scaling.WorkingSet(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%d without %d: got %d, want %d", tt[0], tt[1], got, tt[2])
		}
	}
}

// No two samples give a negative usage, or more than the machine has.
func FuzzUsageBetween(f *testing.F) {
	f.Add(uint64(1), uint64(math.MaxUint64), uint64(0), uint64(math.MaxUint64), int64(1), 4, uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, cpu1, cpu2, sys1, sys2 uint64, passed int64, cpus int, count uint64) {
		prev := runtime.Stats{Time: noon, CPUNanos: cpu1, SystemNanos: sys1, OnlineCPUs: cpus}
		cur := runtime.Stats{Time: noon.Add(time.Duration(passed)), CPUNanos: cpu2, SystemNanos: sys2, OnlineCPUs: cpus,
			Memory: count, NetRx: count, NetTx: count, BlkRead: count, BlkWrite: count}
		u, err := scaling.UsageBetween(prev, cur)
		if err != nil {
			return
		}
		if u.Window <= 0 || u.CPU < 0 || u.Memory < 0 || u.NetRx < 0 || u.NetTx < 0 || u.BlkRead < 0 || u.BlkWrite < 0 {
			t.Fatalf("negative: %+v", u)
		}
		if cpus > 0 && cpus < 1<<20 && u.CPU > int64(cpus)*1000 {
			t.Fatalf("more than %d cores: %+v", cpus, u)
		}
	})
}
