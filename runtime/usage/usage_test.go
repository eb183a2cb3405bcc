package usage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/runtime"
)

// Whole IDs.
var (
	first1 = strings.Repeat("a1", 32)
	other  = strings.Repeat("b2", 32)
)

const (
	netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000000      10    0    0    0     0          0         0  1000000      10    0    0    0     0       0          0
  eth0:    5000      50    0    0    0     0          0         0     7000      70    0    0    0     0       0          0
  eth1:4294967296    1    0    0    0     0          0         0       11       1    0    0    0     0       0          0
`
	procStat = "cpu  100 20 30 4000 5 6 7 8 9 10\ncpu0 50 10 15 2000 2 3 3 4 4 5\ncpu1 50 10 15 2000 3 3 4 4 5 5\nintr 1\n"
	memInfo  = "MemTotal:        8000000 kB\nMemFree:         1000000 kB\n"
	firstV   = `32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	secondV = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
)

// tree writes files below a folder, and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files = maps.Clone(files)
	for name, content := range map[string]string{"proc/stat": procStat, "proc/meminfo": memInfo} {
		if _, set := files[name]; !set {
			files[name] = content
		}
	}
	for name, content := range files {
		write(t, root, name, content)
	}
	return root
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	name = filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// onFirst is a machine with version 1, and a container in a cgroup.
func onFirst(group string) map[string]string {
	return map[string]string{
		"proc/self/mountinfo": firstV, "proc/7/net/dev": netDev,
		"proc/7/cgroup": fmt.Sprintf("9:name=systemd:%[1]s\n8:pids:%[1]s\n7:blkio:%[1]s\n4:memory:%[1]s\n2:cpu,cpuacct:%[1]s\n0::%[1]s\n", group),
		"sys/fs/cgroup/cpu,cpuacct" + group + "/cpuacct.usage":                       "123456789\n",
		"sys/fs/cgroup/memory" + group + "/memory.usage_in_bytes":                    "50000000\n",
		"sys/fs/cgroup/memory" + group + "/memory.stat":                              "cache 1\ninactive_file 2\ntotal_inactive_file 8000000\n",
		"sys/fs/cgroup/memory" + group + "/memory.limit_in_bytes":                    "9223372036854771712\n",
		"sys/fs/cgroup/blkio" + group + "/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\n8:16 Read 4\n8:16 Write 2\nTotal 12294\n",
		"sys/fs/cgroup/blkio" + group + "/blkio.io_service_bytes_recursive":          "8:0 Read 1\n",
		"sys/fs/cgroup/pids" + group + "/pids.current":                               "12\n",
	}
}

// onSecond is a machine with version 2, and a container in a cgroup.
func onSecond(group string) map[string]string {
	dir := "sys/fs/cgroup" + group
	return map[string]string{
		"proc/self/mountinfo": secondV, "proc/7/net/dev": netDev, "proc/7/cgroup": "0::" + group + "\n",
		dir + "/cpu.stat": "usage_usec 123456\nuser_usec 1\nsystem_usec 2\n", dir + "/memory.current": "50000000\n",
		dir + "/memory.stat": "anon 3\ninactive_file 8000000\nactive_file 4\n", dir + "/memory.max": "max\n",
		dir + "/io.stat":      "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=4 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n",
		dir + "/pids.current": "12\n",
	}
}

func container(edits ...func(*runtime.Container)) runtime.Container {
	c := runtime.Container{ID: first1, PID: 7, State: runtime.Running, Started: time.Unix(1, 0)}
	for _, edit := range edits {
		edit(&c)
	}
	return c
}

func TestStatsOfEachLayout(t *testing.T) {
	want := runtime.Stats{
		CPUNanos: 123456789, SystemNanos: 4168 * tick, OnlineCPUs: 2, Memory: 42000000, MemoryLimit: 8000000 << 10,
		NetRx: 4294967296 + 5000, NetTx: 7011, BlkRead: 4100, BlkWrite: 8194, Pids: 12,
	}
	micros := want
	micros.CPUNanos = 123456000
	cases := map[string]struct {
		files map[string]string
		edit  func(files map[string]string, want *runtime.Stats, c *runtime.Container)
		want  runtime.Stats
	}{
		"v1 cgroupfs":          {files: onFirst("/docker/" + first1), want: want},
		"v1 systemd":           {files: onFirst("/system.slice/docker-" + first1 + ".scope"), want: want},
		"v1 in a virtual node": {files: onFirst("/berth/owner/small/" + first1), want: want},
		"v2 cgroupfs":          {files: onSecond("/docker/" + first1), want: micros},
		"v2 systemd":           {files: onSecond("/system.slice/docker-" + first1 + ".scope"), want: micros},
		"v2 in a virtual node": {files: onSecond("/berth.slice/berth-owner.slice/docker-" + first1 + ".scope"), want: micros},
		"v2 rootless":          {files: onSecond("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + first1 + ".scope"), want: micros},
		"v2 with an init below": {files: onSecond("/docker/" + first1), want: micros, edit: func(files map[string]string, _ *runtime.Stats, _ *runtime.Container) {
			files["proc/7/cgroup"] = "0::/docker/" + first1 + "/init.scope\n"
		}},
		"a limit": {files: onSecond("/docker/" + first1), want: micros, edit: func(files map[string]string, want *runtime.Stats, _ *runtime.Container) {
			files["sys/fs/cgroup/docker/"+first1+"/memory.max"] = "64000000\n"
			want.MemoryLimit = 64000000
		}},
		"in the machine's network": {files: onFirst("/docker/" + first1), want: want, edit: func(_ map[string]string, want *runtime.Stats, c *runtime.Container) {
			c.NetworkMode, want.NetRx, want.NetTx = "host", 0, 0
		}},
		"no io, no pids": {files: onSecond("/docker/" + first1), want: micros, edit: func(files map[string]string, want *runtime.Stats, _ *runtime.Container) {
			delete(files, "sys/fs/cgroup/docker/"+first1+"/io.stat")
			delete(files, "sys/fs/cgroup/docker/"+first1+"/pids.current")
			want.BlkRead, want.BlkWrite, want.Pids = 0, 0, 0
		}},
		"v1 with cpu on v2": {files: onFirst("/docker/" + first1), want: micros, edit: func(files map[string]string, _ *runtime.Stats, _ *runtime.Container) {
			files["proc/self/mountinfo"] = strings.ReplaceAll(firstV, "cpu,cpuacct", "cpuset")
			files["sys/fs/cgroup/unified/docker/"+first1+"/cpu.stat"] = "usage_usec 123456\n"
		}},
		"a mount of a part": {files: onSecond("/docker/" + first1), want: micros, edit: func(files map[string]string, _ *runtime.Stats, _ *runtime.Container) {
			files["proc/self/mountinfo"] = strings.Replace(secondV, "0:26 / ", "0:26 /outer ", 1)
			files["proc/7/cgroup"] = "0::/outer/docker/" + first1 + "\n"
		}},
	}
	for name, c := range cases {
		for _, open := range []int{-1, 100} {
			t.Run(fmt.Sprintf("%s, %d open", name, open), func(t *testing.T) {
				files, want, at := maps.Clone(c.files), c.want, container()
				if c.edit != nil {
					c.edit(files, &want, &at)
				}
				r := New(Config{Root: tree(t, files), MaxOpen: open})
				defer func() { _ = r.Close() }()
				for range 2 {
					before := time.Now()
					got := r.Stats(t.Context(), []runtime.Container{at})[first1]
					if got.Time.Before(before) || got.Time.After(time.Now()) {
						t.Errorf("sampled at %s", got.Time)
					}
					got.Time = time.Time{}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				}
				if r.open > max(0, open) {
					t.Errorf("%d files are open, of at most %d", r.open, open)
				}
			})
		}
	}
}

// What is not this container's, or not to be seen, is not read.
func TestStatsOfNobodyElse(t *testing.T) {
	cases := map[string]func(files map[string]string, c *runtime.Container){
		"another container's process": func(files map[string]string, _ *runtime.Container) {
			files["proc/7/cgroup"] = "0::/docker/" + other + "\n"
		},
		"a process of the machine": func(files map[string]string, _ *runtime.Container) { files["proc/7/cgroup"] = "0::/init.scope\n" },
		"outside of what is mounted": func(files map[string]string, _ *runtime.Container) {
			files["proc/7/cgroup"] = "0::/../../docker/" + first1 + "\n"
		},
		"no process":  func(_ map[string]string, c *runtime.Container) { c.PID = 8 },
		"not started": func(_ map[string]string, c *runtime.Container) { c.PID = 0 },
		"a short ID":  func(_ map[string]string, c *runtime.Container) { c.ID = first1[:12] },
		"no memory control": func(files map[string]string, _ *runtime.Container) {
			delete(files, "sys/fs/cgroup/docker/"+first1+"/memory.current")
		},
		"no mounts": func(files map[string]string, _ *runtime.Container) { delete(files, "proc/self/mountinfo") },
		"another parent": func(files map[string]string, _ *runtime.Container) {
			files["proc/self/mountinfo"] = strings.Replace(secondV, "0:26 / ", "0:26 /dock ", 1)
		},
		"nonsense": func(files map[string]string, _ *runtime.Container) {
			files["sys/fs/cgroup/docker/"+first1+"/cpu.stat"] = "usage_usec -1\n"
		},
	}
	for name, edit := range cases {
		t.Run(name, func(t *testing.T) {
			files, c := onSecond("/docker/"+first1), container()
			edit(files, &c)
			r := New(Config{Root: tree(t, files)})
			defer func() { _ = r.Close() }()
			if got := r.Stats(t.Context(), []runtime.Container{c}); len(got) > 0 {
				t.Errorf("sampled: %+v", got)
			}
			if r.open > 0 || len(r.runs) > 0 {
				t.Errorf("%d files of %d runs are kept", r.open, len(r.runs))
			}
		})
	}
}

// A container that was started anew has new counters, and one that has ended none.
func TestStatsOfAnotherRun(t *testing.T) {
	files := onSecond("/docker/" + first1)
	root := tree(t, files)
	r := New(Config{Root: root})
	defer func() { _ = r.Close() }()
	c := container()
	if got := r.Stats(t.Context(), []runtime.Container{c}); len(got) != 1 {
		t.Fatal("not sampled")
	}
	dir := filepath.Join(root, "sys/fs/cgroup/docker", first1)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		write(t, root, name, strings.Replace(content, "123456", "5", 1))
	}
	write(t, root, "proc/9/cgroup", files["proc/7/cgroup"])
	write(t, root, "proc/9/net/dev", netDev)
	c.PID, c.Started = 9, c.Started.Add(time.Minute)
	if got := r.Stats(t.Context(), []runtime.Container{c})[first1].CPUNanos; got != 5000 {
		t.Errorf("%d ns of CPU time after it was started anew, want 5000", got)
	}
	if r.open != 6 || len(r.runs) != 1 {
		t.Errorf("%d files of %d runs are kept, want those of one", r.open, len(r.runs))
	}
	if err := os.RemoveAll(filepath.Join(root, "proc/9")); err != nil {
		t.Fatal(err)
	}
	if got := r.Stats(t.Context(), []runtime.Container{c}); len(got) > 0 {
		t.Errorf("sampled after its end: %+v", got)
	}
	if r.open != 0 || len(r.runs) != 0 {
		t.Errorf("%d files of %d runs are kept after its end", r.open, len(r.runs))
	}
}

// What nobody asks for is let go of.
func TestFilesAreLetGoOf(t *testing.T) {
	root := tree(t, onSecond("/docker/"+first1))
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Root: root})
		r.Stats(t.Context(), []runtime.Container{container()})
		time.Sleep(keepFor - time.Second)
		r.Stats(t.Context(), []runtime.Container{container()})
		count := func() int {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.open
		}
		time.Sleep(keepFor - time.Second)
		synctest.Wait()
		if n := count(); n != 6 {
			t.Errorf("%d files are open of what is asked for", n)
		}
		time.Sleep(keepFor)
		synctest.Wait()
		if n := count(); n != 0 {
			t.Errorf("%d files are open of what nobody asks for", n)
		}
	})
}

// engine answers each question after a second.
type engine struct {
	now, most atomic.Int64
	fail      map[string]bool
}

func (e *engine) Stats(ctx context.Context, id string, stream bool, fn func(runtime.Stats) bool) error {
	defer e.now.Add(-1)
	for now := e.now.Add(1); ; {
		most := e.most.Load()
		if now <= most || e.most.CompareAndSwap(most, now) {
			break
		}
	}
	if stream {
		return errors.New("it was asked for a stream")
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
	}
	if e.fail[id] {
		return errors.New("no such container")
	}
	fn(runtime.Stats{CPUNanos: uint64(len(id))})
	return nil
}

func TestEngineIsAskedForTheRest(t *testing.T) {
	root := tree(t, onSecond("/docker/"+first1))
	synctest.Test(t, func(t *testing.T) {
		e := &engine{fail: map[string]bool{"far-3": true}}
		r := New(Config{Root: root, Engine: e})
		defer func() { _ = r.Close() }()
		all := []runtime.Container{container()}
		for i := range 20 {
			all = append(all, runtime.Container{ID: fmt.Sprintf("far-%d", i), PID: 7, State: runtime.Running})
		}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				got := r.Stats(t.Context(), all)
				if _, failed := got["far-3"]; len(got) != 20 || failed || got["far-19"].CPUNanos != 6 || got[first1].CPUNanos != 123456000 {
					t.Errorf("%d samples: %v", len(got), slices.Sorted(maps.Keys(got)))
				}
			})
		}
		both.Wait()
		if n := e.most.Load(); n != atOnce {
			t.Errorf("%d questions at once, want %d", n, atOnce)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if got := r.Stats(ctx, all); len(got) != atOnce+1-1 { // one of the first eight fails
			t.Errorf("%d samples in time", len(got))
		}
	})
}

func TestSharedReader(t *testing.T) {
	files := onFirst("/docker/" + first1)
	r := New(Config{Root: tree(t, files)})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				if got := r.Stats(t.Context(), []runtime.Container{container()})[first1]; got.Memory != 42000000 || got.Pids != 12 {
					t.Errorf("sampled %+v", got)
					return
				}
				_ = r.Close()
			}
		})
	}
	all.Wait()
}

// Whatever stands in the kernel's files, reading them neither fails nor makes up
// anything.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{netDev, procStat, memInfo, firstV, secondV, "8:0 Read 1\n", "8:0 rbytes=1 wbytes=\n", "a 1\na 2\n", "99999999999999999999\n", "cpu", "x:", `1 1 0:1 / /a\040b\9 rw - cgroup2 x y`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if n, ok := number(content); ok && fmt.Sprint(n) != strings.TrimLeft(strings.TrimSpace(string(content)), "0") && n != 0 {
			t.Errorf("number(%q) = %d", content, n)
		}
		if most := limit(content, 100); most > 100 {
			t.Errorf("limit(%q) = %d of 100", content, most)
		}
		keyed(content, "a")
		moved(content)
		network(content)
		memoryTotal(content)
		if _, cpus := machine(content); cpus > strings.Count(string(content), "cpu") {
			t.Errorf("machine(%q): %d CPUs", content, cpus)
		}
		for _, h := range hierarchies(string(content)) {
			if dir := h.dir("/docker/../x"); dir != "" && !strings.HasPrefix(dir, h.mount) {
				t.Errorf("%q is outside of %+v", dir, h)
			}
		}
		cgroupsOf(string(content), first1)
	})
}

func BenchmarkStats(b *testing.B) {
	for name, files := range map[string]map[string]string{"v1": onFirst("/docker/" + first1), "v2": onSecond("/docker/" + first1)} {
		b.Run(name, func(b *testing.B) {
			root := b.TempDir()
			for name, content := range files {
				name = filepath.Join(root, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(content), 0o600)); err != nil {
					b.Fatal(err)
				}
			}
			if err := errors.Join(os.WriteFile(filepath.Join(root, "proc/stat"), []byte(procStat), 0o600), os.WriteFile(filepath.Join(root, "proc/meminfo"), []byte(memInfo), 0o600)); err != nil {
				b.Fatal(err)
			}
			r := New(Config{Root: root})
			defer func() { _ = r.Close() }()
			all := []runtime.Container{container()}
			b.ReportAllocs()
			for b.Loop() {
				if len(r.Stats(b.Context(), all)) != 1 {
					b.Fatal("not sampled")
				}
			}
		})
	}
}
