package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

func TestKindOf(t *testing.T) {
	cause := errors.New("port 8080 is already allocated")
	conflict := &runtime.Error{Kind: runtime.KindConflict, Op: "start", Object: "shop-web-1", Err: cause}
	for _, tt := range []struct {
		name string
		err  error
		want runtime.Kind
	}{
		{"nil", nil, ""},
		{"plain", errors.New("reset by peer"), runtime.KindUnavailable},
		{"kind", conflict, runtime.KindConflict},
		{"wrapped", fmt.Errorf("stack shop: %w", conflict), runtime.KindConflict},
		{"joined", errors.Join(errors.New("first"), conflict), runtime.KindConflict},
		{"empty kind", &runtime.Error{Op: "start"}, runtime.KindUnavailable},
		{"cancelled", context.Canceled, runtime.KindUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := runtime.KindOf(tt.err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if !errors.Is(conflict, cause) {
		t.Error("the cause is lost")
	}
}

func TestKindPredicates(t *testing.T) {
	is := map[runtime.Kind]func(error) bool{
		runtime.KindNotFound: runtime.IsNotFound, runtime.KindConflict: runtime.IsConflict,
		runtime.KindInvalid: runtime.IsInvalid, runtime.KindUnavailable: runtime.IsUnavailable,
	}
	for kind := range is {
		err := fmt.Errorf("wrapped: %w", &runtime.Error{Kind: kind, Op: "stop"})
		for other, f := range is {
			if f(err) != (kind == other) {
				t.Errorf("an error of kind %q: is %q says %t", kind, other, f(err))
			}
		}
	}
	for kind, f := range is {
		if f(nil) {
			t.Errorf("nil is %q", kind)
		}
	}
	if runtime.IsUnavailable(&runtime.Error{Kind: runtime.KindUnavailable, Op: "list", Err: context.Canceled}) {
		t.Error("a call that was given up counts as an engine that does not answer")
	}
	if !runtime.IsUnavailable(&runtime.Error{Kind: runtime.KindUnavailable, Op: "list", Err: context.DeadlineExceeded}) {
		t.Error("a deadline that passed does not count as an engine that does not answer")
	}
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]*runtime.Error{
		"start shop-web-1: no":  {Op: "start", Object: "shop-web-1", Err: errors.New("no")},
		"list: no":              {Op: "list", Err: errors.New("no")},
		"pull redis:7":          {Op: "pull", Object: "redis:7"},
		"connect to the engine": {Op: "connect to the engine"},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestUptimeSurvivesTheClock(t *testing.T) {
	noon := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		state   runtime.State
		started time.Time
		now     time.Time
		want    time.Duration
	}{
		{"an hour", runtime.Running, noon, noon.Add(time.Hour), time.Hour},
		{"paused", runtime.Paused, noon, noon.Add(time.Minute), time.Minute},
		{"clock set back an hour", runtime.Running, noon, noon.Add(-time.Hour), 0},
		{"clock set to 1970", runtime.Running, noon, time.Unix(0, 0), 0},
		{"never started", runtime.Created, time.Time{}, noon, 0},
		{"running without a start", runtime.Running, time.Time{}, noon, 0},
		{"exited", runtime.Exited, noon, noon.Add(time.Hour), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := runtime.Container{State: tt.state, Started: tt.started}
			if got := c.Uptime(tt.now); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestRan(t *testing.T) {
	noon := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name              string
		state             runtime.State
		started, finished time.Time
		want              time.Duration
	}{
		{"a minute", runtime.Exited, noon, noon.Add(time.Minute), time.Minute},
		{"goes on", runtime.Running, noon, noon.Add(-time.Minute), 0},
		{"never", runtime.Created, time.Time{}, time.Time{}, 0},
		{"clock set back meanwhile", runtime.Exited, noon, noon.Add(-time.Hour), 0},
		{"start failed", runtime.Created, noon, time.Time{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := runtime.Container{State: tt.state, Started: tt.started, Finished: tt.finished}
			if got := c.Ran(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// fill sets every field reachable from v to something.
func fill(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("v%d", n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(uint64(n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf(fmt.Sprintf("v%d", n)))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(n), 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n+i)
		}
	default:
		panic("a kind of field this test does not know: " + v.Kind().String())
	}
}

// shares reports the path at which two values share memory, "" where they do not.
func shares(a, b reflect.Value, path string) string {
	switch a.Kind() {
	case reflect.Slice, reflect.Map:
		if a.Len() > 0 && a.Pointer() == b.Pointer() {
			return path
		}
		if a.Kind() == reflect.Slice {
			for i := range a.Len() {
				if p := shares(a.Index(i), b.Index(i), path+"[]"); p != "" {
					return p
				}
			}
		}
	case reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() {
			return ""
		}
		for i := range a.NumField() {
			if p := shares(a.Field(i), b.Field(i), path+"."+a.Type().Field(i).Name); p != "" {
				return p
			}
		}
	default: // plain values share nothing
	}
	return ""
}

func TestCloneSharesNothing(t *testing.T) {
	var c runtime.Container
	fill(reflect.ValueOf(&c).Elem(), 1)
	d := c.Clone()
	if !reflect.DeepEqual(c, d) {
		t.Errorf("got %+v\nwant %+v", d, c)
	}
	if p := shares(reflect.ValueOf(c), reflect.ValueOf(d), "Container"); p != "" {
		t.Errorf("%s is shared", p)
	}
	var empty runtime.Container
	if d := empty.Clone(); !reflect.DeepEqual(empty, d) {
		t.Errorf("a clone of nothing is %+v", d)
	}
}

func TestCPUPercent(t *testing.T) {
	second := uint64(time.Second)
	for _, tt := range []struct {
		name      string
		prev, cur runtime.Stats
		want      float64
	}{
		{"one core of two", runtime.Stats{}, runtime.Stats{CPUNanos: second, SystemNanos: 2 * second, OnlineCPUs: 2}, 100},
		{"both cores", runtime.Stats{}, runtime.Stats{CPUNanos: 2 * second, SystemNanos: 2 * second, OnlineCPUs: 2}, 200},
		{"a quarter", runtime.Stats{CPUNanos: second, SystemNanos: 4 * second}, runtime.Stats{CPUNanos: second + second/4, SystemNanos: 5 * second, OnlineCPUs: 1}, 25},
		{"idle", runtime.Stats{CPUNanos: second, SystemNanos: second}, runtime.Stats{CPUNanos: second, SystemNanos: 2 * second, OnlineCPUs: 2}, 0},
		{"restarted meanwhile", runtime.Stats{CPUNanos: 9 * second, SystemNanos: second}, runtime.Stats{CPUNanos: second, SystemNanos: 2 * second, OnlineCPUs: 2}, 0},
		{"the same sample", runtime.Stats{CPUNanos: second, SystemNanos: second}, runtime.Stats{CPUNanos: second, SystemNanos: second, OnlineCPUs: 2}, 0},
		{"system time stood still", runtime.Stats{SystemNanos: second}, runtime.Stats{CPUNanos: second, SystemNanos: second, OnlineCPUs: 2}, 0},
		{"number of cores unknown", runtime.Stats{}, runtime.Stats{CPUNanos: second, SystemNanos: 2 * second}, 50},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := runtime.CPUPercent(tt.prev, tt.cur); math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestGrace(t *testing.T) {
	if got := (&runtime.Spec{}).Grace(); got != 10*time.Second {
		t.Errorf("default: %s", got)
	}
	if got := (&runtime.Spec{StopGrace: time.Minute}).Grace(); got != time.Minute {
		t.Errorf("given: %s", got)
	}
}

func TestRestartPolicyActive(t *testing.T) {
	for name, want := range map[string]bool{"": false, "no": false, "always": true, "on-failure": true, "unless-stopped": true} {
		if got := (runtime.RestartPolicy{Name: name}).Active(); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}
