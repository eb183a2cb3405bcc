package scheduler

import (
	"math"
	"math/bits"
	"slices"
)

// class is the nodes that differ in nothing but in what is placed on them: of one
// capacity, with the same taints, state, platform and values of all labels that
// a template mentions.
//
// Members of which exactly as much is used may form a group, and stand in the index
// as their leader, the first of them. The leaders are sorted into cells: into
// rows by how much of their cpu and memory is used on the whole, and within a row
// by how far the cpu is ahead of the memory. For the one the scores favour a low
// or a high use, for the other a good balance; so both together bound what the
// leaders in a cell score, and a search looks into few of them. A small class has
// no cells.
type class struct {
	id      int32
	sample  *node // any member: it stands for all in what they share
	members []*node
	size    *size
	more    bool // disk and network are scored too

	rows     []row // nil: there are none
	rowsUsed [(rowCount + 63) / 64]uint64

	spareCells  [][]leader
	spareGroups []*group
}

// A row spans a part of a percent of the mean of cpu and memory, and a cell as
// much of what the cpu is ahead. More of them say more exactly what their members
// score, fewer are looked through faster.
const (
	rowBits  = 0 // 2^rowBits rows make a percent of the mean
	cellBits = 1 // 2^cellBits cells make a percent
	rowCount = 100<<rowBits + 1

	evenPlace  = 100 << cellBits // of the cell in which cpu and memory are used alike
	placeCount = 2*evenPlace + 1
	placeWords = (placeCount + 63) / 64
)

// smallClass is the size up to which looking at every member is as fast.
const smallClass = 24

// crowded is how many leaders make a cell in which groups save more than they cost.
const crowded = 12

// group is two or more members with the same use.
type group struct {
	count   int
	members *bitset
}

// row is the cells in it, which all have a leader. Its bits tell without a look
// at the cells whether there is one between two places, and where.
type row struct {
	places  [placeWords]uint64 // at which there is a cell
	before  [placeWords]int16  // how many there are before each word
	cells   []cell             // by place
	leaders [][]leader         // in each cell, sorted by member
}

// cell is what bounds the leaders in it, as short as can be: a search reads many.
type cell struct {
	place int32    // in the row
	first int32    // index of the first leader's node
	least [2]grain // that any of them uses
}

// leader is what a search asks of a member that leads a group, or is alone:
// together with those of the same cell, as looks into the members one by one are
// slow.
type leader struct {
	use           [2]share
	member, index int32
}

func (cl *class) add(n *node) {
	n.class, n.member = cl, int32(len(cl.members)) //nolint:gosec // bounded by memory
	n.use, n.group, n.soft, n.late = [2]share{}, nil, false, false
	cl.members = append(cl.members, n)
}

// fill sorts the members into cells, once all are added.
func (cl *class) fill() {
	if len(cl.members) > smallClass {
		cl.rows = make([]row, rowCount)
	}
	for _, n := range cl.members {
		cl.measure(n)
		if cl.rows != nil {
			cl.enter(n)
		}
	}
}

// measure reads the node's use.
func (cl *class) measure(n *node) {
	n.use = [2]share{shareOf(n.scored[cpu], n.alloc[cpu]), shareOf(n.scored[memory], n.alloc[memory])}
	soft := n.scored[cpu] != n.used[cpu] || n.scored[memory] != n.used[memory]
	if soft != n.soft {
		n.soft = soft
		if soft {
			cl.size.soft++
		} else {
			cl.size.soft--
		}
	}
}

// spot is the cell of a use: its row, and its place in that.
func spot(use [2]share) (row, place int32) {
	mean, apart := use[cpu]>>1+use[memory]>>1, use[cpu]-use[memory]
	return int32(mean >> (percentBits - rowBits)), int32(apart>>(percentBits-cellBits)) + evenPlace //nolint:gosec // within some hundreds
}

// changed follows a change of what is placed on the member.
func (cl *class) changed(n *node) {
	was := n.use
	cl.measure(n)
	if cl.rows != nil && (n.use != was || cl.more) {
		cl.leave(n, was)
		cl.enter(n)
	}
}

// alike says whether every score rates the node as it does the leader.
func (cl *class) alike(n *node, l *leader) bool {
	if l.use != n.use {
		return false
	}
	o := cl.members[l.member]
	return !cl.more || o.scored[disk] == n.scored[disk] && o.scored[network] == n.scored[network]
}

// enter makes the member a leader, or in a crowded cell joins it to the group of
// its use.
func (cl *class) enter(n *node) {
	at, place := spot(n.use)
	r := &cl.rows[at]
	i := r.rank(place)
	if !r.has(place) {
		cl.open(at, place, i)
	}
	n.group = nil
	if all := r.leaders[i]; len(all) >= crowded {
		if j := slices.IndexFunc(all, func(l leader) bool { return cl.alike(n, &l) }); j >= 0 {
			cl.join(all[j].member, n)
			if all[j].member < n.member {
				return
			}
			r.leaders[i] = slices.Delete(all, j, j+1)
		}
	}
	r.insert(i, find(r.leaders[i], n.member), n)
}

// join makes the member one of the leader's group.
func (cl *class) join(leader int32, n *node) {
	g := cl.members[leader].group
	if g == nil {
		g = cl.newGroup(leader)
		cl.members[leader].group = g
	}
	n.group = g
	g.members.add(n.member)
	g.count++
}

func (cl *class) newGroup(of int32) *group {
	g := &group{}
	if last := len(cl.spareGroups) - 1; last >= 0 {
		g, cl.spareGroups = cl.spareGroups[last], cl.spareGroups[:last]
	} else {
		g.members = newBitset(len(cl.members))
	}
	g.members.add(of)
	g.count = 1
	return g
}

// leave takes the member, which was used so much, out of its group, and out of
// its cell where it led. The next of the group then leads.
func (cl *class) leave(n *node, was [2]share) {
	next, g := int32(-1), n.group
	if g != nil {
		g.members.remove(n.member)
		g.count--
		first := g.members.next(0)
		if g.count == 1 {
			cl.members[first].group = nil
			g.members.remove(first)
			cl.spareGroups = append(cl.spareGroups, g)
		}
		if first < n.member {
			return
		}
		next = first
	}
	at, place := spot(was)
	r := &cl.rows[at]
	i := r.rank(place)
	from := find(r.leaders[i], n.member)
	r.leaders[i] = slices.Delete(r.leaders[i], from, from+1)
	switch {
	case next >= 0:
		to := find(r.leaders[i], next)
		r.leaders[i] = slices.Insert(r.leaders[i], to, leader{was, next, cl.members[next].index})
		r.cells[i].first = r.leaders[i][0].index
	case len(r.leaders[i]) == 0:
		cl.close(at, i)
	default:
		r.cells[i].without(was, r.leaders[i])
	}
}

// without follows that a leader of such a use has gone.
func (c *cell) without(use [2]share, left []leader) {
	c.first = left[0].index
	if use[cpu].grain() > c.least[cpu] && use[memory].grain() > c.least[memory] {
		return
	}
	least := left[0].use
	for i := range left {
		least = [2]share{min(least[cpu], left[i].use[cpu]), min(least[memory], left[i].use[memory])}
	}
	c.least = [2]grain{least[cpu].grain(), least[memory].grain()}
}

// open makes the i-th cell of a row, at a place where there is none.
func (cl *class) open(at, place int32, i int) {
	var leaders []leader
	if last := len(cl.spareCells) - 1; last >= 0 {
		leaders, cl.spareCells = cl.spareCells[last], cl.spareCells[:last]
	}
	r := &cl.rows[at]
	r.cells = slices.Insert(r.cells, i, cell{place: place, least: [2]grain{math.MaxInt32, math.MaxInt32}})
	r.leaders = slices.Insert(r.leaders, i, leaders)
	r.note(place, 1)
	cl.rowsUsed[at>>6] |= 1 << (at & 63)
}

// close takes the i-th cell of a row away, which is empty.
func (cl *class) close(at int32, i int) {
	r := &cl.rows[at]
	cl.spareCells = append(cl.spareCells, r.leaders[i])
	r.note(r.cells[i].place, -1)
	r.cells = slices.Delete(r.cells, i, i+1)
	r.leaders = slices.Delete(r.leaders, i, i+1)
	if len(r.cells) == 0 {
		cl.rowsUsed[at>>6] &^= 1 << (at & 63)
	}
}

// note follows that a cell was made at the place, by 1, or taken away, by -1.
func (r *row) note(place int32, by int16) {
	w := place >> 6
	r.places[w] ^= 1 << (place & 63)
	for w++; w < placeWords; w++ {
		r.before[w] += by
	}
}

func (r *row) has(place int32) bool { return r.places[place>>6]>>(place&63)&1 == 1 }

// rank is how many cells the row has before the place.
func (r *row) rank(place int32) int {
	w := place >> 6
	return int(r.before[w]) + bits.OnesCount64(r.places[w]&(1<<(place&63)-1))
}

// between is the range of the cells from one place to another, which may both be
// far beyond the row.
func (r *row) between(low, high int32) (from, to int) {
	if to = len(r.cells); high < placeCount-1 {
		to = r.rank(max(high+1, 0))
	}
	if low > 0 {
		from = r.rank(min(low, placeCount-1))
	}
	return from, to
}

// find is the place of the first leader from the member on.
func find(all []leader, member int32) int {
	low, high := 0, len(all)
	for low < high {
		if middle := (low + high) / 2; all[middle].member < member {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// insert makes the node a leader in the i-th cell.
func (r *row) insert(i, at int, n *node) {
	r.leaders[i] = slices.Insert(r.leaders[i], at, leader{n.use, n.member, n.index})
	c := &r.cells[i]
	c.first = r.leaders[i][0].index
	c.least = [2]grain{min(c.least[cpu], n.use[cpu].grain()), min(c.least[memory], n.use[memory].grain())}
}
