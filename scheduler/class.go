package scheduler

import "slices"

// class is the nodes that differ in nothing but in what is placed on them: of one
// capacity, with the same taints, state, platform and values of all labels that
// a template mentions.
//
// Members of which exactly as much is used form a group, and stand in the index
// as their leader, the first of them. The leaders are sorted into cells: into
// rows by how much of their cpu and memory is used on the whole, and within a row
// by how far the cpu is ahead of the memory. For the one the scores favour a low
// or a high use, for the other a good balance; so both together bound what the
// leaders in a cell score, and a search looks into few of them. A small class has
// no cells.
type class struct {
	id      int32
	sample  *node // any member: it stands for all in what they share
	members []member
	more    bool    // disk and network are scored too
	soft    int     // members of which the scores count more than is reserved
	late    []int32 // members whose change was postponed

	rows     [][]cell // sorted; nil: there are none
	rowsUsed [(rowCount + 63) / 64]uint64

	spareCells  [][]leader
	spareGroups []*group
}

// A row spans a part of a percent of the mean of cpu and memory, and a cell as
// much of what the cpu is ahead. More of them say more exactly what their members
// score, fewer are looked through faster.
const (
	rowBits  = 1 // 2^rowBits rows make a percent of the mean
	cellBits = 1 // 2^cellBits cells make a percent
	rowCount = 100<<rowBits + 1
)

// smallClass is the size up to which looking at every member is as fast.
const smallClass = 24

// member is one node of a class.
type member struct {
	node  *node
	index int32    // of the node
	use   [2]share // of cpu and memory, as the scores count it
	rest  [2]int64 // what the scores count of disk and network, if they do
	group *group   // nil: no other member uses exactly as much
	soft  bool
	late  bool // it has changed since
}

// group is two or more members with the same use.
type group struct {
	count   int
	members *bitset
}

// cell is the leaders in it, sorted by member.
type cell struct {
	ahead   int32    // its place in the row
	first   int32    // index of the first leader's node
	least   [2]share // that any of them uses
	leaders []leader
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
	cl.members = append(cl.members, member{node: n, index: n.index})
}

// fill sorts the members into cells, once all are added.
func (cl *class) fill() {
	if len(cl.members) > smallClass {
		cl.rows = make([][]cell, rowCount)
	}
	for i := range cl.members {
		m := &cl.members[i]
		cl.measure(m)
		if cl.rows != nil {
			cl.enter(int32(i), m)
		}
	}
}

// measure reads the node's use and finds its cell.
func (cl *class) measure(m *member) {
	n := m.node
	m.use = [2]share{shareOf(n.scored[cpu], n.alloc[cpu]), shareOf(n.scored[memory], n.alloc[memory])}
	if cl.more {
		m.rest = [2]int64{n.scored[disk], n.scored[network]}
	}
	soft := n.scored[cpu] != n.used[cpu] || n.scored[memory] != n.used[memory]
	if soft != m.soft {
		m.soft = soft
		if soft {
			cl.soft++
		} else {
			cl.soft--
		}
	}
}

// place is the member's cell.
func (m *member) place() (row, ahead int32) {
	mean, apart := m.use[cpu]>>1+m.use[memory]>>1, m.use[cpu]-m.use[memory]
	return int32(mean >> (percentBits - rowBits)), int32(apart >> (percentBits - cellBits)) //nolint:gosec // within some hundreds
}

// changed follows a change of what is placed on the member.
func (cl *class) changed(i int32) {
	m := &cl.members[i]
	was := *m
	cl.measure(m)
	if cl.rows != nil && !m.alike(&was) {
		cl.leave(i, &was)
		cl.enter(i, m)
	}
}

// postpone notes that the member has changed, for the next search to follow.
func (cl *class) postpone(i int32) {
	if m := &cl.members[i]; !m.late {
		m.late = true
		cl.late = append(cl.late, i)
	}
}

// catchUp follows the changes that were postponed.
func (cl *class) catchUp() {
	for _, i := range cl.late {
		cl.members[i].late = false
		cl.changed(i)
	}
	cl.late = cl.late[:0]
}

// alike says whether every score rates both members the same.
func (m *member) alike(o *member) bool { return m.use == o.use && m.rest == o.rest }

// enter joins the member to the group of its use, or makes it a leader.
func (cl *class) enter(i int32, m *member) {
	c := cl.cell(m)
	to := 0
	for j := range c.leaders {
		l := &c.leaders[j]
		if l.use == m.use && cl.members[l.member].alike(m) {
			cl.join(l.member, i)
			if i < l.member {
				c.leaders = slices.Delete(c.leaders, j, j+1)
				c.insert(to, leader{m.use, i, m.index})
			}
			return
		}
		if l.member < i {
			to = j + 1
		}
	}
	m.group = nil
	c.insert(to, leader{m.use, i, m.index})
}

// join makes the member one of the leader's group.
func (cl *class) join(leader, i int32) {
	g := cl.members[leader].group
	if g == nil {
		g = cl.newGroup(leader)
		cl.members[leader].group = g
	}
	cl.members[i].group = g
	g.members.add(i)
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

// leave takes the member, as it was, out of its group, and out of its cell where
// it led. The next of the group then leads.
func (cl *class) leave(i int32, was *member) {
	next, g := int32(-1), was.group
	if g != nil {
		g.members.remove(i)
		g.count--
		first := g.members.next(0)
		if g.count == 1 {
			cl.members[first].group = nil
			g.members.remove(first)
			cl.spareGroups = append(cl.spareGroups, g)
		}
		if first < i {
			return
		}
		next = first
	}
	row, ahead := was.place()
	at, _ := findCell(cl.rows[row], ahead)
	c := &cl.rows[row][at]
	from := c.find(i)
	c.leaders = slices.Delete(c.leaders, from, from+1)
	switch {
	case next >= 0:
		c.insert(c.find(next), leader{was.use, next, cl.members[next].index})
	case len(c.leaders) == 0:
		cl.close(row, at)
	default:
		c.without(was.use)
	}
}

// without follows that a leader of such a use has gone.
func (c *cell) without(use [2]share) {
	c.first = c.leaders[0].index
	if use[cpu] > c.least[cpu] && use[memory] > c.least[memory] {
		return
	}
	c.least = c.leaders[0].use
	for i := range c.leaders {
		l := &c.leaders[i]
		c.least = [2]share{min(c.least[cpu], l.use[cpu]), min(c.least[memory], l.use[memory])}
	}
}

// cell is where the member belongs; it is made if there is none.
func (cl *class) cell(m *member) *cell {
	row, ahead := m.place()
	at, found := findCell(cl.rows[row], ahead)
	if !found {
		c := cell{ahead: ahead, least: m.use}
		if last := len(cl.spareCells) - 1; last >= 0 {
			c.leaders, cl.spareCells = cl.spareCells[last], cl.spareCells[:last]
		}
		cl.rows[row] = slices.Insert(cl.rows[row], at, c)
		cl.rowsUsed[row>>6] |= 1 << (row & 63)
	}
	return &cl.rows[row][at]
}

// close takes an empty cell away.
func (cl *class) close(row int32, at int) {
	cl.spareCells = append(cl.spareCells, cl.rows[row][at].leaders)
	cl.rows[row] = slices.Delete(cl.rows[row], at, at+1)
	if len(cl.rows[row]) == 0 {
		cl.rowsUsed[row>>6] &^= 1 << (row & 63)
	}
}

// findCell is the first cell of a row that is at least so far ahead.
func findCell(row []cell, ahead int32) (at int, found bool) {
	low, high := 0, len(row)
	for low < high {
		if middle := (low + high) / 2; row[middle].ahead < ahead {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(row) && row[low].ahead == ahead
}

// within is the cells of a row, which has some, from one place to another.
func within(row []cell, low, high int32) []cell {
	from, to := 0, len(row)
	if row[0].ahead < low {
		from, _ = findCell(row, low)
	}
	if row[to-1].ahead > high {
		to, _ = findCell(row, high+1)
	}
	return row[min(from, to):to]
}

// find is the place of the first leader from the member on.
func (c *cell) find(member int32) int {
	low, high := 0, len(c.leaders)
	for low < high {
		if middle := (low + high) / 2; c.leaders[middle].member < member {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

func (c *cell) insert(at int, l leader) {
	c.leaders = slices.Insert(c.leaders, at, l)
	c.first = c.leaders[0].index
	c.least = [2]share{min(c.least[cpu], l.use[cpu]), min(c.least[memory], l.use[memory])}
}
