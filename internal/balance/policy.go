package balance

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"
)

// The time a backend is avoided for after it failed a connect: doubled with each
// failure in a row.
const (
	avoidFirst = 250 * time.Millisecond
	avoidMost  = 5 * time.Second
)

// candidate is what a policy sees of a backend.
type candidate struct {
	id, group string
	open      int
	at        int // its place in the pool's list
}

// chooser carries out a policy. Its choices depend on nothing but what it is told
// and on what it chose before.
type chooser struct {
	policy Policy
	shares map[string]int
	credit map[string]int    // per group: the share it is owed
	last   map[string]string // per group: whom it chose last
	rand   func(n int) int   // 0 ≤ x < n
}

func newChooser(rand func(int) int) chooser {
	return chooser{credit: map[string]int{}, last: map[string]string{}, rand: rand}
}

// set changes what is asked. What it chose before is remembered for as long as the
// shares stay.
func (c *chooser) set(p Policy, shares map[string]int) {
	c.policy = cmp.Or(p, RoundRobin)
	if !maps.Equal(c.shares, shares) {
		clear(c.credit)
		clear(c.last)
	}
	c.shares = shares
}

// choose returns one of the candidates, which are ordered by id and at least one.
func (c *chooser) choose(from []candidate, client netip.Addr) candidate {
	group := ""
	if len(c.shares) > 0 {
		from, group = c.chooseGroup(from, client)
	}
	switch c.policy {
	case LeastConnections:
		return c.inTurn(group, leastOpen(from))
	case RandomTwo:
		return c.fewerOfTwo(from)
	case SourceHash:
		return highest(from, client)
	default:
		return c.inTurn(group, from)
	}
}

// chooseGroup returns the candidates of the group whose turn it is.
func (c *chooser) chooseGroup(from []candidate, client netip.Addr) ([]candidate, string) {
	groups := c.groups(from)
	if len(groups) == 0 { // only groups without a share
		return from, ""
	}
	var group string
	if c.policy == SourceHash {
		group = c.groupOf(groups, client)
	} else {
		group = c.groupInTurn(groups)
	}
	of := make([]candidate, 0, len(from))
	for _, f := range from {
		if f.group == group {
			of = append(of, f)
		}
	}
	return of, group
}

// groups returns the groups that have candidates and a share, ordered.
func (c *chooser) groups(from []candidate) []string {
	var groups []string
	for _, f := range from {
		if c.shares[f.group] > 0 && !slices.Contains(groups, f.group) {
			groups = append(groups, f.group)
		}
	}
	slices.Sort(groups)
	return groups
}

// groupInTurn spreads the shares evenly: each group is credited its share, and the
// one with the most pays for all (the smooth weighted round-robin of nginx, 2012).
// In each run of as many choices as the shares add up to, each group is chosen
// exactly as often as its share says.
func (c *chooser) groupInTurn(groups []string) string {
	for g := range c.credit {
		if !slices.Contains(groups, g) {
			delete(c.credit, g) // it shall not catch up for the time of its absence
		}
	}
	best, total := "", 0
	for _, g := range groups {
		c.credit[g] += c.shares[g]
		total += c.shares[g]
		if best == "" || c.credit[g] > c.credit[best] {
			best = g
		}
	}
	c.credit[best] -= total
	return best
}

// groupOf gives each client its group: weighted rendezvous hashing, by which a
// share that grows takes clients from the others and moves none between them.
func (c *chooser) groupOf(groups []string, client netip.Addr) string {
	best, most := "", math.Inf(-1)
	for _, g := range groups {
		// -w/ln(h), h uniform in (0, 1)
		h := (float64(score(g, client)>>11) + 0.5) / (1 << 53)
		if s := -float64(c.shares[g]) / math.Log(h); s > most {
			best, most = g, s
		}
	}
	return best
}

// inTurn returns the candidate after the one that was chosen last.
func (c *chooser) inTurn(group string, from []candidate) candidate {
	next, _ := slices.BinarySearchFunc(from, c.last[group], func(f candidate, last string) int {
		if f.id <= last {
			return -1
		}
		return 1
	})
	chosen := from[next%len(from)]
	c.last[group] = chosen.id
	return chosen
}

// leastOpen returns the candidates that have the fewest open connections.
func leastOpen(from []candidate) []candidate {
	least := slices.MinFunc(from, func(a, b candidate) int { return cmp.Compare(a.open, b.open) }).open
	of := make([]candidate, 0, len(from))
	for _, f := range from {
		if f.open == least {
			of = append(of, f)
		}
	}
	return of
}

func (c *chooser) fewerOfTwo(from []candidate) candidate {
	if len(from) == 1 {
		return from[0]
	}
	i := c.rand(len(from))
	j := c.rand(len(from) - 1)
	if j >= i {
		j++
	}
	if from[j].open < from[i].open {
		i = j
	}
	return from[i]
}

// highest returns the candidate whose score with the client is the highest.
func highest(from []candidate, client netip.Addr) candidate {
	return slices.MaxFunc(from, func(a, b candidate) int {
		return cmp.Compare(score(a.id, client), score(b.id, client))
	})
}

// score hashes a name and a client address; equal in every process, so that a
// client finds the same backend after a restart.
func score(name string, client netip.Addr) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	a := client.Unmap().As16()
	_, _ = h.Write(a[:])
	return mix(h.Sum64())
}

// mix spreads the bits of a hash whose last bytes differ little (the finalizer of
// MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// avoidFor is how long a backend is avoided after so many failures in a row.
func avoidFor(failures int) time.Duration {
	d := avoidFirst
	for ; failures > 1 && d < avoidMost; failures-- {
		d *= 2
	}
	return min(d, avoidMost)
}
