package scheduler

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestResourceFormulas(t *testing.T) {
	line := []RatioPoint{{0, 0}, {50, 100}, {100, 20}}
	for _, c := range []struct {
		name        string
		got, expect int64
	}{
		{"least, 3000 of 4000 left", leastAllocated(1000, 4000), 75},
		{"least rounds down: 2/3 left", leastAllocated(1, 3), 66},
		{"least, nothing left", leastAllocated(4000, 4000), 0},
		{"least, promised too much", leastAllocated(4001, 4000), 0},
		{"most, a quarter used", mostAllocated(1000, 4000), 25},
		{"most rounds down: 1/3", mostAllocated(1, 3), 33},
		{"most, promised too much", mostAllocated(9000, 4000), 100},
		{"on the line's first part", onLine(line, 25, 100), 50},
		{"on a point", onLine(line, 50, 100), 100},
		{"on the falling part: 100 - 80*25/50", onLine(line, 75, 100), 60},
		{"before the first point", onLine([]RatioPoint{{10, 30}, {20, 40}}, 5, 100), 30},
		{"after the last point", onLine([]RatioPoint{{10, 30}, {20, 40}}, 90, 100), 40},
		{"balance of equal fractions", balance(1, 2, 512, 1024), 100},
		{"balance of 0.6 and 0.2", balance(600, 1000, 200, 1000), 80},
		{"balance of 0 and 1", balance(0, 10, 7, 7), 50},
		{"balance cuts fractions at 1", balance(30, 10, 7, 7), 100},
		{"balance rounds down: 1/3 and 0", balance(1, 3, 0, 5), 83},
		{"balance where float64 would be off: 0.84 and 0", balance(84, 100, 0, 1), 58},
		{"gain of none", balanceGain(90, 90), 75},
		{"gain from worst to best", balanceGain(100, 50), 100},
		{"loss from best to worst", balanceGain(50, 100), 50},
		{"gain rounds down", balanceGain(91, 90), 75},
		{"normalised", normalise(1, 3, false), 33},
		{"normalised, reversed", normalise(1, 3, true), 67},
		{"normalised, reversed, none", normalise(0, 0, true), 100},
		{"normalised, none", normalise(0, 0, false), 0},
		{"between", between(-1, -4, 5), 33},
		{"between equals", between(3, 3, 3), 0},
		{"reversed: 100*(9+3-9)/9", reversed(9, 3, 9), 33},
		{"reversed, smallest", reversed(3, 3, 9), 100},
		{"reversed, all zero", reversed(0, 0, 0), 100},
		{"spread of 4 over 3 domains: 4*ln 5 + 0 = 6.44", rounded(spreadScore(4, 3, 1)), 6},
		{"spread of 2 over 2 domains, skew 3: 2*ln 4 + 2 = 4.77", rounded(spreadScore(2, 2, 3)), 5},
	} {
		if c.got != c.expect {
			t.Errorf("%s: got %d, want %d", c.name, c.got, c.expect)
		}
	}
}

func TestWeightedMeanOfResources(t *testing.T) {
	p := policy{resources: amounts{cpu: 1, memory: 3}, ratio: []RatioPoint{{0, 0}, {100, 100}}}
	alloc, used := amounts{cpu: 1000, memory: 1000}, amounts{cpu: 100, memory: 300}
	need := amounts{cpu: 100, memory: 100}
	for _, c := range []struct {
		name   string
		kind   int
		alloc  amounts
		expect int64
	}{
		{"least: (80 + 3*60)/4", scoreLeast, alloc, 65},
		{"most: (20 + 3*40)/4", scoreMost, alloc, 35},
		{"ratio: (20 + 3*40)/4", scoreRatio, alloc, 35},
		{"least, memory alone counted", scoreLeast, amounts{memory: 1000}, 60},
		{"nothing counted", scoreLeast, amounts{}, 0},
		{"ratio leaves out a score of 0 and rounds to the nearest", scoreRatio, amounts{cpu: 1 << 40, memory: 1000}, 40},
	} {
		if got := p.resourceScore(c.kind, &c.alloc, &used, &need); got != c.expect {
			t.Errorf("%s: got %d, want %d", c.name, got, c.expect)
		}
	}
}

func TestBalanceIsTheExactValueRoundedDown(t *testing.T) {
	amount := rapid.Int64Range(1, MaxAmount)
	rapid.Check(t, func(t *rapid.T) {
		allocA, allocB := amount.Draw(t, "allocA"), amount.Draw(t, "allocB")
		usedA, usedB := rapid.Int64Range(0, allocA).Draw(t, "usedA"), rapid.Int64Range(0, allocB).Draw(t, "usedB")
		apart := new(big.Rat).Sub(big.NewRat(usedA, allocA), big.NewRat(usedB, allocB))
		exact := new(big.Rat).Sub(big.NewRat(100, 1), apart.Mul(apart.Abs(apart), big.NewRat(50, 1)))
		want := new(big.Int).Div(exact.Num(), exact.Denom()).Int64()
		if got := balance(usedA, allocA, usedB, allocB); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}

func TestLogarithm(t *testing.T) {
	for n := int64(1); n < 100_000; n += 1 + n/50 {
		want := math.Log(float64(n)) * (1 << lnScale)
		if got := float64(ln(n)); math.Abs(got-want) > 64 {
			t.Errorf("ln %d: got %.0f, want %.0f", n, got, want)
		}
	}
}

// Shares score without a division what the formulas do.
func TestSharesScoreExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, most int64) (alloc, used, need int64) {
			alloc = rapid.Int64Range(1, most).Draw(t, name)
			used = rapid.OneOf(rapid.Int64Range(0, alloc), rapid.Map(rapid.Int64Range(0, 100), func(p int64) int64 { return alloc / 100 * p })).Draw(t, "used")
			return alloc, used, rapid.Int64Range(0, alloc-used).Draw(t, "need")
		}
		allocA, usedA, needA := draw("a", MaxCPU)
		allocB, usedB, needB := draw("b", rapid.SampledFrom([]int64{MaxAmount, min(1<<54/allocA, MaxAmount)}).Draw(t, "most"))
		a, b, forA, forB := shareOf(usedA, allocA), shareOf(usedB, allocB), shareOf(needA, allocA), shareOf(needB, allocB)
		left := 100*aPercent - forB - b
		if got, want := left.whole(), leastAllocated(usedB+needB, allocB); got != want {
			t.Errorf("least: got %d, want %d", got, want)
		}
		if got, want := left.rest(), mostAllocated(usedB+needB, allocB); got != want {
			t.Errorf("most: got %d, want %d", got, want)
		}
		if !separable(allocA, allocB) {
			return
		}
		if got, want := (a - b).balance(), balance(usedA, allocA, usedB, allocB); got != want {
			t.Errorf("balance without: got %d, want %d", got, want)
		}
		if got, want := (a - b + forA - forB).balance(), balance(usedA+needA, allocA, usedB+needB, allocB); got != want {
			t.Errorf("balance with: got %d, want %d", got, want)
		}
	})
}

func TestFormatAmount(t *testing.T) {
	for _, c := range []struct {
		resource string
		v        int64
		want     string
	}{
		{CPU, 500, "0.5"}, {CPU, 2000, "2"}, {CPU, 1, "0.001"},
		{Memory, 128 << 20, "128M"}, {Memory, 1536 << 20, "1.5G"}, {Memory, 0, "0"}, {Memory, 100, "100B"},
		{Network, 100_000_000, "100M"}, {"gpu", 3, "3"},
	} {
		if got := FormatAmount(c.resource, c.v); got != c.want {
			t.Errorf("%s %d: got %s, want %s", c.resource, c.v, got, c.want)
		}
	}
}
