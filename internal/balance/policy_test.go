package balance

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func candidates(ids ...string) []candidate {
	var all []candidate
	for i, id := range ids {
		all = append(all, candidate{id: id, at: i})
	}
	return all
}

func clientAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func chooserOf(p Policy, shares map[string]int, rand func(int) int) *chooser {
	c := newChooser(rand)
	c.set(p, shares)
	return &c
}

func TestRoundRobinGoesOnWhenBackendsChange(t *testing.T) {
	c := chooserOf(RoundRobin, nil, nil)
	for _, step := range []struct {
		from []candidate
		want string
	}{
		{candidates("a", "b", "c"), "a"},
		{candidates("a", "b", "c"), "b"},
		{candidates("a", "c"), "c"},
		{candidates("a", "c", "d"), "d"},
		{candidates("b", "c"), "b"},
	} {
		if got := c.choose(step.from, netip.Addr{}).id; got != step.want {
			t.Errorf("of %v it took %s, want %s", step.from, got, step.want)
		}
	}
}

func TestLeastConnections(t *testing.T) {
	c := chooserOf(LeastConnections, nil, nil)
	from := candidates("a", "b", "c")
	from[0].open, from[1].open, from[2].open = 2, 1, 1
	var got []string
	for range 4 {
		got = append(got, c.choose(from, netip.Addr{}).id)
	}
	if want := []string{"b", "c", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestRandomTwoTakesTheOneWithFewer(t *testing.T) {
	from := candidates("a", "b", "c")
	from[0].open, from[1].open, from[2].open = 5, 3, 4
	for _, test := range []struct {
		first, second int // what chance says
		want          string
	}{
		{0, 0, "b"}, // a and b
		{0, 1, "c"}, // a and c
		{1, 0, "b"}, // b and a
		{2, 1, "b"}, // c and b
		{2, 0, "c"}, // c and a
	} {
		rolls := []int{test.first, test.second}
		c := chooserOf(RandomTwo, nil, func(int) int {
			r := rolls[0]
			rolls = rolls[1:]
			return r
		})
		if got := c.choose(from, netip.Addr{}).id; got != test.want {
			t.Errorf("chance %d, %d: took %s, want %s", test.first, test.second, got, test.want)
		}
	}
	c := chooserOf(RandomTwo, nil, nil) // needs no chance
	if got := c.choose(from[:1], netip.Addr{}).id; got != "a" {
		t.Errorf("of one it took %s", got)
	}
}

// A backend that leaves moves only its own clients, and one that joins takes about
// its share, and gives the other backends none of each other's.
func TestSourceHashMovesOnlyItsShare(t *testing.T) {
	const clients = 10_000
	of := func(from []candidate) []string {
		c := chooserOf(SourceHash, nil, nil)
		got := make([]string, clients)
		for i := range got {
			got[i] = c.choose(from, clientAddr(i)).id
		}
		return got
	}
	four, five := of(candidates("a", "b", "c", "d")), of(candidates("a", "b", "c", "d", "e"))
	moved, load := 0, map[string]int{}
	for i := range four {
		load[five[i]]++
		if four[i] == five[i] {
			continue
		}
		moved++
		if five[i] != "e" {
			t.Fatalf("client %d moved from %s to %s, though e joined", i, four[i], five[i])
		}
	}
	for id, n := range load {
		if n < clients/5*9/10 || n > clients/5*11/10 {
			t.Errorf("%s has %d of %d clients", id, n, clients)
		}
	}
	if moved != load["e"] {
		t.Errorf("%d moved, and e has %d", moved, load["e"])
	}
}

func TestSourceHashKeepsSharesOfClients(t *testing.T) {
	from := candidates("a", "b")
	from[0].group, from[1].group = "old", "new"
	before, after := chooserOf(SourceHash, map[string]int{"old": 90, "new": 10}, nil), chooserOf(SourceHash, map[string]int{"old": 70, "new": 30}, nil)
	const clients = 10_000
	count := map[string]int{}
	for i := range clients {
		b, a := before.choose(from, clientAddr(i)).id, after.choose(from, clientAddr(i)).id
		count[b]++
		if b == "b" && a != "b" {
			t.Fatalf("client %d left the group whose share grew", i)
		}
	}
	if n := count["b"]; n < clients*9/100 || n > clients*11/100 {
		t.Errorf("%d of %d clients have the group with a tenth", n, clients)
	}
}

// In as many choices as the shares add up to, each group has exactly its share; at
// any time it is less than one choice from it for each group.
func TestSharesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "groups")
		shares, total := map[string]int{}, 0
		var from []candidate
		for i := range n {
			g := fmt.Sprint("g", i)
			shares[g] = rapid.IntRange(1, 40).Draw(t, g)
			total += shares[g]
			for j := range rapid.IntRange(1, 3).Draw(t, "backends of "+g) {
				from = append(from, candidate{id: fmt.Sprint(g, "-", j), group: g, at: len(from)})
			}
		}
		c := chooserOf(RoundRobin, shares, nil)
		got := map[string]int{}
		for i := 1; i <= 2*total; i++ {
			got[c.choose(from, netip.Addr{}).group]++
			for g, share := range shares {
				if off := got[g]*total - i*share; off > n*total || off < -n*total {
					t.Fatalf("after %d choices %s has %d, and its share is %d of %d", i, g, got[g], share, total)
				}
			}
		}
		for g := range shares {
			shares[g] *= 2
		}
		if !maps.Equal(got, shares) {
			t.Fatalf("got %v, want %v", got, shares)
		}
	})
}

func TestShareOfAGroupWithoutBackendsGoesToOthers(t *testing.T) {
	from := candidates("a", "b")
	from[0].group, from[1].group = "r1", "r2"
	c := chooserOf(RoundRobin, map[string]int{"r1": 1, "r2": 0, "r3": 5}, nil)
	for range 3 {
		if got := c.choose(from, netip.Addr{}).id; got != "a" {
			t.Errorf("took %s", got)
		}
	}
	if got := c.choose(from[1:], netip.Addr{}).id; got != "b" { // better than none
		t.Errorf("took %s", got)
	}
}

func TestAvoidFor(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: 250 * time.Millisecond, 2: 500 * time.Millisecond, 3: time.Second, 4: 2 * time.Second,
		5: 4 * time.Second, 6: 5 * time.Second, 1000: 5 * time.Second,
	} {
		if got := avoidFor(failures); got != want {
			t.Errorf("after %d failures it is avoided for %v, want %v", failures, got, want)
		}
	}
}

func TestRouteRefusesNonsense(t *testing.T) {
	b := newBalancer(t, Config{})
	a := serve(t, "a", nil).backend()
	route(t, b, Routing{Backends: []Backend{a}})
	for name, r := range map[string]Routing{
		"policy":  {Policy: "fastest"},
		"share":   {Shares: map[string]int{"r1": -1}},
		"shares":  {Shares: map[string]int{"r1": maxShare + 1}},
		"twice":   {Backends: []Backend{a, a}},
		"no name": {Backends: []Backend{{}}},
	} {
		if err := b.Route(web, r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if s, ok := b.Backend(web, "a"); !ok || !s.Routed {
		t.Errorf("a routing that was refused changed something: %+v", s)
	}
}
