package vertical_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scaling/vertical"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	day = 24 * time.Hour
	mib = 1 << 20
)

// fed is a history of one replica that used the same for a while, once a minute.
func fed(days float64, cpu, memory int64) *vertical.History {
	var h vertical.History
	for at := noon; at.Before(noon.Add(time.Duration(days * float64(day)))); at = at.Add(time.Minute) {
		h.AddCPU("1", at, cpu, 0)
		h.AddMemory("1", at, memory)
	}
	return &h
}

func recommend(t *testing.T, h *vertical.History) vertical.Recommendation {
	t.Helper()
	r, ok := h.Recommend(vertical.Options{})
	if !ok {
		t.Fatal("nothing is known")
	}
	return r
}

// bucketEnd is the upper end of the bucket of a value: widths are first·1.05ⁿ.
func bucketEnd(value, first float64) float64 {
	end := first
	for width := first; end <= value; end += width {
		width *= 1.05
	}
	return end
}

func near(a int64, b float64) bool { return math.Abs(float64(a)-b) <= 1+b*1e-9 }

// Steady use gives the end of its bucket and 15 %, with bounds that narrow over
// time.
func TestRecommendSteady(t *testing.T) {
	for _, days := range []float64{0.25, 1, 7} {
		h := fed(days, 1000, 1000*mib)
		r := recommend(t, h)
		known := days - 1.0/1440 // between the first and the last sample
		shrink := (1 + 0.001/known) * (1 + 0.001/known)
		cpu, memory := 1000*1.15*bucketEnd(1, 0.01), 1.15*bucketEnd(1000*mib, 1e7)
		for _, tt := range []struct {
			name string
			got  int64
			want float64
		}{
			{"cpu", r.CPU.Target, cpu},
			{"cpu upper", r.CPU.Upper, cpu * (1 + 1/known)},
			{"cpu lower", r.CPU.Lower, cpu / shrink},
			{"memory", r.Memory.Target, memory},
			{"memory upper", r.Memory.Upper, memory * (1 + 1/known)},
			{"memory lower", r.Memory.Lower, memory / shrink},
		} {
			if !near(tt.got, tt.want) {
				t.Errorf("%s after %v days: got %d, want %.0f", tt.name, days, tt.got, tt.want)
			}
		}
	}
}

// The first sample says next to nothing about the bounds, and little use is never
// less than the least.
func TestRecommendEdges(t *testing.T) {
	var h vertical.History
	if _, ok := h.Recommend(vertical.Options{}); ok {
		t.Error("an empty history recommends")
	}
	h.AddCPU("1", noon, 1000, 0)
	if _, ok := h.Recommend(vertical.Options{}); ok {
		t.Error("a history without memory recommends")
	}
	h.AddMemory("1", noon, 1000*mib)
	r := recommend(t, &h)
	if r.CPU.Upper != math.MaxInt64 || r.Memory.Upper != math.MaxInt64 || r.CPU.Lower != 25 || r.Memory.Lower != vertical.DefaultLeastMemory {
		t.Errorf("one sample gives %+v", r)
	}
	idle := recommend(t, fed(2, 0, 0))
	if idle.CPU.Target != 25 || idle.CPU.Upper != 25 || idle.Memory.Target != vertical.DefaultLeastMemory {
		t.Errorf("no use gives %+v", idle)
	}
	own, _ := fed(2, 0, 0).Recommend(vertical.Options{LeastCPU: 1, LeastMemory: 1})
	if own.CPU.Target != 11 || own.Memory.Target != 11_500_000 { // the first buckets end at 10m and 10 MB
		t.Errorf("no use and no least gives %+v", own)
	}
	most := recommend(t, fed(2, 5_000_000, 1<<50))
	if most.CPU.Target < 1_000_000 || most.Memory.Target < 1e12 || most.CPU.Upper < most.CPU.Target {
		t.Errorf("use beyond the last bucket gives %+v", most)
	}
}

// The percentiles are those of samples that weigh half as much after a day, and of
// their reservation.
func TestPercentilesAgainstSortedSamples(t *testing.T) {
	type sample struct{ value, weight float64 }
	rapid.Check(t, func(rt *rapid.T) {
		var h vertical.History
		var all []sample
		total := 0.0
		at := noon
		for i := range rapid.IntRange(1, 60).Draw(rt, "samples") {
			at = at.Add(time.Duration(rapid.IntRange(1, 20*3600).Draw(rt, fmt.Sprint("passes ", i))) * time.Second)
			used := rapid.Int64Range(0, 20_000).Draw(rt, fmt.Sprint("used ", i))
			reserved := rapid.Int64Range(0, 4_000).Draw(rt, fmt.Sprint("reserved ", i))
			h.AddCPU("1", at, used, reserved)
			w := math.Exp2(at.Sub(noon).Hours()/24) * max(float64(reserved)/1000, 0.1)
			all = append(all, sample{float64(used) / 1000, w})
			total += w
		}
		h.AddMemory("1", at, 0)
		slices.SortFunc(all, func(a, b sample) int { return int(math.Copysign(1, a.value-b.value)) })
		want := func(part float64) float64 {
			sum := 0.0
			for _, s := range all {
				if sum += s.weight; sum >= part*total*(1-1e-9) {
					return s.value
				}
			}
			return all[len(all)-1].value
		}
		o := vertical.Options{Target: rapid.Float64Range(0.05, 0.99).Draw(rt, "part"), LeastCPU: 1}
		r, _ := h.Recommend(o)
		// One sample nearer or further is right where the sum is at the border.
		low, high := bucketEnd(want(o.Target-1e-6), 0.01), bucketEnd(want(o.Target+1e-6), 0.01)
		if got := float64(r.CPU.Target) / 1150; got < low-0.002-low*1e-6 || got > high+0.002+high*1e-6 {
			rt.Fatalf("got %v, want %v to %v of %v", got, low, high, all)
		}
	})
}

// Only the highest value of a day counts, once per replica.
func TestMemoryPeaks(t *testing.T) {
	one := math.Exp2(-0.5) // the reference is the midnight after a peak that is dated to noon
	quiet, peaky := fed(1, 100, 300*mib), fed(1, 100, 300*mib)
	peaky.AddMemory("1", noon.Add(23*time.Hour+59*time.Minute), 900*mib)
	for _, h := range []*vertical.History{quiet, peaky} {
		if n := weight(h.Memory); math.Abs(n-one) > 1e-9 {
			t.Errorf("one day counts %v, want %v for one peak", n, one)
		}
	}
	if got, want := recommend(t, peaky).Memory.Target, 1.15*bucketEnd(900*mib, 1e7); !near(got, want) {
		t.Errorf("got %d, want %.0f", got, want)
	}
	peaky.AddMemory("1", noon.Add(day), 300*mib) // the next one
	peaky.AddMemory("2", noon.Add(day), 300*mib)
	if n := weight(peaky.Memory); math.Abs(n-(one+2*one+2*one)) > 1e-9 {
		t.Errorf("three peaks weigh %v, want %v", n, 5*one)
	}
	again, once := clone(t, peaky), clone(t, peaky)
	for _, h := range []*vertical.History{again, once} { // a lower peak of the next day than of this
		h.AddMemory("1", noon.Add(day+time.Hour), 500*mib)
	}
	again.AddMemory("1", noon.Add(day+2*time.Hour), 600*mib)
	once.AddMemory("1", noon.Add(day+2*time.Hour), 600*mib)
	once.AddMemory("1", noon.Add(day+3*time.Hour), 550*mib)
	once.Replicas["1"].MemoryAt = again.Replicas["1"].MemoryAt
	if !reflect.DeepEqual(again, once) || reflect.DeepEqual(again.Memory, peaky.Memory) || math.Abs(weight(again.Memory)-5*one) > 1e-9 {
		t.Errorf("the second day's peak is not the highest of it: %+v, %+v", again, once)
	}
	if peaky.AddMemory("1", noon, 2000*mib) || peaky.AddMemory("1", noon.Add(2*day), -1) {
		t.Error("an old or a negative sample was taken")
	}
	if peaky.AddCPU("1", noon, 1, 0) || peaky.AddCPU("1", noon.Add(2*day), -1, 0) {
		t.Error("an old or a negative sample of cpu was taken")
	}
}

func clone(t *testing.T, h *vertical.History) *vertical.History {
	t.Helper()
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var back vertical.History
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return &back
}

func weight(h vertical.Histogram) float64 {
	sum := 0.0
	for _, w := range h.Weights {
		sum += w
	}
	return sum
}

// After a kill for want of memory a fifth more is asked for, at least 100 MiB.
func TestOOM(t *testing.T) {
	tests := []struct{ used, limit, want int64 }{
		{100 * mib, 200 * mib, 300 * mib},
		{100 * mib, 1000 * mib, 1200 * mib},
		{900 * mib, 800 * mib, 1080 * mib},
	}
	for _, tt := range tests {
		h := fed(0.5, 100, tt.used)
		at := noon.Add(day / 2)
		if !h.AddOOM("1", at, tt.limit) {
			t.Fatal("was not taken")
		}
		if got, want := recommend(t, h).Memory.Target, 1.15*bucketEnd(float64(tt.want), 1e7); !near(got, want) {
			t.Errorf("%+v: got %d, want %.0f", tt, got, want)
		}
		before := recommend(t, h)
		if h.AddOOM("1", at, tt.limit); recommend(t, h).Memory != before.Memory {
			t.Errorf("%+v: a second kill at the same limit raises again", tt)
		}
	}
	// The next day has a peak of its own.
	killed, spared := fed(0.5, 100, 100*mib), fed(0.5, 100, 100*mib)
	killed.AddOOM("1", noon.Add(day/2), 1000*mib)
	before := weight(killed.Memory)
	for _, h := range []*vertical.History{killed, spared} {
		h.AddMemory("1", noon.Add(day), 300*mib)
		h.AddMemory("1", noon.Add(day+time.Hour), 500*mib)
	}
	if got, want := killed.Replicas["1"], spared.Replicas["1"]; *got != *want || weight(killed.Memory) <= before {
		t.Errorf("after a kill the day before: got %+v, want %+v", got, want)
	}
	h := fed(3, 100, 100*mib)
	if h.AddOOM("1", noon.Add(36*time.Hour), 200*mib) {
		t.Error("a kill of an interval that is over was taken")
	}
}

// What was used long ago is forgotten.
func TestDecay(t *testing.T) {
	h := fed(1, 4000, 4000*mib)
	for at := noon.Add(day); at.Before(noon.Add(12 * day)); at = at.Add(10 * time.Minute) {
		h.AddCPU("1", at, 100, 0)
		h.AddMemory("1", at, 100*mib)
	}
	r := recommend(t, h)
	if want := 1150 * bucketEnd(0.1, 0.01); !near(r.CPU.Target, want) {
		t.Errorf("got %d, want %.0f", r.CPU.Target, want)
	}
	if want := 1.15 * bucketEnd(100*mib, 1e7); !near(r.Memory.Target, want) {
		t.Errorf("got %d of memory, want %.0f", r.Memory.Target, want)
	}
}

// A clock that was wrong for a while neither hides new samples nor keeps what it
// dated.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, 3 * day, 400 * day, 20 * 365 * day, -time.Hour, -56 * 365 * day} {
		h := fed(1, 1000, 1000*mib)
		h.AddCPU("1", noon.Add(day+jump), 1000, 0)
		h.AddMemory("1", noon.Add(day+jump), 1000*mib)
		for at := noon.Add(day); at.Before(noon.Add(6 * day)); at = at.Add(time.Minute) {
			h.AddCPU("1", at, 200, 0)
			h.AddMemory("1", at, 600*mib)
		}
		if err := h.Check(); err != nil {
			t.Fatalf("after %s: %v", jump, err)
		}
		r := recommend(t, h)
		if want := 1150 * bucketEnd(0.2, 0.01); !near(r.CPU.Target, want) {
			t.Errorf("after %s: got %d, want %.0f", jump, r.CPU.Target, want)
		}
		memory := 1.15 * bucketEnd(600*mib, 1e7)
		if jump.Abs() > 100*day && !near(r.Memory.Target, memory) || float64(r.Memory.Target) < memory-1 || r.Days < 0 {
			t.Errorf("after %s: got %+v, want %.0f of memory", jump, r, memory)
		}
	}
}

// A history is small, and JSON does not change what it recommends.
func TestHistoryJSON(t *testing.T) {
	h := fed(3, 1000, 1000*mib)
	for i := range 5000 {
		at := noon.Add(3*day + time.Duration(i)*time.Minute)
		h.AddCPU("2", at, int64(i*7919%64_000), 500)
		h.AddMemory("2", at, int64(i)*mib)
	}
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 8_000 {
		t.Errorf("takes %d bytes", len(data))
	}
	var back vertical.History
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(h, &back) || back.Check() != nil {
		t.Errorf("got %+v, want %+v: %v", back, h, back.Check())
	}
}

// Replicas that are gone are forgotten.
func TestHistoryForgetsReplicas(t *testing.T) {
	var h vertical.History
	for i := range 1000 {
		h.AddCPU(fmt.Sprint(i), noon.Add(time.Duration(i)*time.Hour), 1, 0)
	}
	if n := len(h.Replicas); n > 8*24+2 {
		t.Errorf("remembers %d replicas", n)
	}
}

// Nothing that passes the check of what was read makes the rest fail.
func FuzzHistory(f *testing.F) {
	data, _ := json.Marshal(fed(0.01, 100, mib))
	f.Add(data, int64(5), int64(1<<40))
	f.Add([]byte(`{"cpu":{"first":175,"weights":[1e308,1e308]},"replicas":{"1":null}}`), int64(-1), int64(math.MaxInt64))
	f.Add([]byte(`{"memory":{"reference":"9999-12-31T00:00:00Z","first":170,"weights":[1,0,1]}}`), int64(math.MaxInt64), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, cpu, memory int64) {
		var h vertical.History
		if json.Unmarshal(data, &h) != nil || h.Check() != nil {
			return
		}
		h.AddCPU("1", noon, cpu, memory)
		h.AddMemory("1", noon, memory)
		h.AddOOM("1", noon, cpu)
		if r, ok := h.Recommend(vertical.Options{}); ok && (r.CPU.Target < 25 || r.Memory.Target < vertical.DefaultLeastMemory || r.CPU.Upper < r.CPU.Lower) {
			t.Fatalf("got %+v", r)
		}
	})
}

// What is no history of this package is refused.
func TestHistoryCheck(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{}`, "<nil>"},
		{`{"cpu":{"first":175,"weights":[1]}}`, "<nil>"},
		{`{"cpu":{"first":175,"weights":[1,1]}}`, "history of cpu: 2 weights from bucket 175 on do not fit into 176 buckets"},
		{`{"memory":{"first":-1,"weights":[1]}}`, "history of memory: 1 weights from bucket -1 on do not fit into 176 buckets"},
		{`{"cpu":{"weights":[-1]}}`, "history of cpu: a weight is not a number or below 0"},
		{`{"replicas":{"1":null}}`, "history of replica 1: is empty"},
	} {
		var h vertical.History
		if err := json.Unmarshal([]byte(tt.json), &h); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(h.Check()); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.json, got, tt.want)
		}
	}
}

func TestApply(t *testing.T) {
	r := vertical.Range{Lower: 400, Target: 500, Upper: 800}
	tests := []struct {
		name                    string
		least, most, limit, use int64
		want                    int64
		reason                  string
	}{
		{"within", 0, 0, 600, 100, 600, "600m is between 400m and 800m"},
		{"at the lower bound", 0, 0, 400, 100, 400, "400m is between 400m and 800m"},
		{"too small", 0, 0, 300, 100, 500, "below the 400m that are needed"},
		{"too large", 0, 0, 900, 100, 500, "above the 800m that could be needed"},
		{"too large, but used", 0, 0, 900, 600, 690, "above the 800m that could be needed"},
		{"too large, but all used", 0, 0, 900, 783, 900, "783m are used"},
		{"the minimum", 700, 0, 900, 100, 700, "above the 800m that could be needed"},
		{"the maximum", 0, 350, 200, 100, 350, "below the 350m that are needed"},
		{"the maximum, though more is used", 0, 350, 200, 340, 350, "below the 350m that are needed"},
		{"at the maximum", 0, 350, 350, 300, 350, "350m is between 350m and 350m"},
		{"above the maximum", 0, 350, 900, 100, 350, "above the 350m that could be needed"},
		{"above the maximum, and used", 0, 350, 900, 340, 900, "340m are used, too much for the maximum of 350m"},
		{"no limit", 0, 0, 0, 100, 0, "it has no limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := vertical.Bounds{Min: vertical.Amounts{CPU: tt.least}, Max: vertical.Amounts{CPU: tt.most}}
			c := vertical.Apply(vertical.Recommendation{CPU: r}, b, vertical.Amounts{CPU: tt.limit}, vertical.Amounts{CPU: tt.use})
			if want := (vertical.Step{From: tt.limit, To: tt.want, Reason: tt.reason}); c.CPU != want || c.Changes() != (tt.limit != tt.want) {
				t.Errorf("got %+v, want %+v", c.CPU, want)
			}
		})
	}
}

// A reason tells of memory as the file has it, and of what is not known as such.
func TestApplyTellsOfMemory(t *testing.T) {
	r := vertical.Recommendation{Memory: vertical.Range{Lower: 20 * mib, Target: 32 * mib, Upper: math.MaxInt64}}
	for limit, want := range map[int64]string{
		64 * mib: "64M is not below 20M, and too little is known to say what is too much",
		10 * mib: "below the 20M that are needed",
	} {
		if got := vertical.Apply(r, vertical.Bounds{}, vertical.Amounts{Memory: limit}, vertical.Amounts{}).Memory.Reason; got != want {
			t.Errorf("of %d bytes it says %q, want %q", limit, got, want)
		}
	}
}

// A limit that is changed is within the bounds, and not lowered to what is used.
func TestApplyProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(name string, low int64) int64 { return rapid.Int64Range(low, 1<<20).Draw(rt, name) }
		var r vertical.Range
		r.Lower = draw("lower", 0)
		r.Target = r.Lower + draw("target", 0)
		r.Upper = r.Target + draw("upper", 0)
		b := vertical.Bounds{Min: vertical.Amounts{Memory: draw("min", 0)}}
		b.Max.Memory = b.Min.Memory + draw("max", 1)
		limit, used := draw("limit", 1), draw("used", 0)
		s := vertical.Apply(vertical.Recommendation{Memory: r}, b, vertical.Amounts{Memory: limit}, vertical.Amounts{Memory: used}).Memory
		if s.To == s.From {
			return
		}
		if s.To < b.Min.Memory || s.To > b.Max.Memory {
			rt.Fatalf("outside of the bounds %+v: %+v", b, s)
		}
		if s.To < s.From && float64(s.To) < float64(used)*1.15-1 {
			rt.Fatalf("lowered although %d are used: %+v", used, s)
		}
		again := vertical.Apply(vertical.Recommendation{Memory: r}, b, vertical.Amounts{Memory: s.To}, vertical.Amounts{Memory: used}).Memory
		if again.To != s.To {
			rt.Fatalf("changes again: %+v, then %+v", s, again)
		}
	})
}

func BenchmarkAddCPU(b *testing.B) {
	h := fed(1, 1000, mib)
	at := noon.Add(day)
	for b.Loop() {
		at = at.Add(time.Second)
		h.AddCPU("1", at, 500, 100)
	}
}

func BenchmarkRecommend(b *testing.B) {
	h := fed(1, 1000, mib)
	for b.Loop() {
		h.Recommend(vertical.Options{})
	}
}
