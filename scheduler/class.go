package scheduler

import "math/bits"

// class is the nodes that differ in nothing but in what is placed on them: of one
// capacity, with the same taints, state, platform and values of all labels that
// a template mentions.
//
// Members of which exactly as much is used form a group, and stand in the index
// as their leader, the first of them. The leaders are sorted into cells by how
// many whole percent of their cpu and memory are used. All scores that depend on
// use can be bounded for a cell as a whole, so that a search looks into few of
// them. A small class has neither.
type class struct {
	id      int32
	sample  *node // any member: it stands for all in what they share
	members []member
	soft    int // members of which the scores count more than is reserved

	groups   map[[2]int64]*group // by cpu and memory
	cells    []*cell             // by cpu percent · percents + memory percent; nil: empty. nil slice: no cells
	rows     [2*percents - 1][2]uint64
	rowsUsed [4]uint64

	spareCells  []*cell
	spareGroups []*group
}

// percents is the number of whole percents, 0 to 100.
const percents = 101

// smallClass is the size up to which looking at every member is as fast.
const smallClass = 24

// member is one node of a class.
type member struct {
	node    *node
	without int64 // balance as it is
	cpu     int64 // as the scores count it, at most the capacity
	memory  int64
	group   *group
	cell    int32
	soft    bool
}

// group is the members with the same use.
type group struct {
	leader  int32
	count   int
	members *bitset // nil: the leader alone
}

// cell is a set of leaders.
type cell struct {
	*bitset
	count int
}

func (cl *class) add(n *node) {
	n.class, n.member = cl, int32(len(cl.members)) //nolint:gosec // bounded by memory
	cl.members = append(cl.members, member{node: n})
}

// fill sorts the members into cells, once all are added.
func (cl *class) fill() {
	if len(cl.members) > smallClass {
		cl.cells, cl.groups = make([]*cell, percents*percents), map[[2]int64]*group{}
	}
	for i := range cl.members {
		m := &cl.members[i]
		cl.measure(m)
		if cl.cells != nil {
			cl.enter(int32(i), m) //nolint:gosec // bounded by memory
		}
	}
}

// measure reads the node's use and finds its cell.
func (cl *class) measure(m *member) {
	n := m.node
	alloc := &n.alloc
	m.cpu, m.memory = min(n.scored[cpu], alloc[cpu]), min(n.scored[memory], alloc[memory])
	if alloc[cpu] > 0 && alloc[memory] > 0 {
		m.without = balance(m.cpu, alloc[cpu], m.memory, alloc[memory])
	}
	if cl.cells != nil {
		m.cell = int32(percentOf(m.cpu, alloc[cpu])*percents + percentOf(m.memory, alloc[memory])) //nolint:gosec // below 101²
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

// percentOf is used/alloc in whole percent, rounded down.
func percentOf(used, alloc int64) int64 {
	if alloc == 0 {
		return 0
	}
	return used * 100 / alloc
}

// percentUp is used/alloc in whole percent, rounded up.
func percentUp(used, alloc int64) int64 {
	if alloc == 0 {
		return 0
	}
	return (min(used, alloc)*100 + alloc - 1) / alloc
}

// changed follows a change of what is placed on the member.
func (cl *class) changed(i int32) {
	m := &cl.members[i]
	was := *m
	cl.measure(m)
	if cl.cells != nil && (m.cpu != was.cpu || m.memory != was.memory) {
		cl.leave(i, &was)
		cl.enter(i, m)
	}
}

// enter joins the member to the group of its use.
func (cl *class) enter(i int32, m *member) {
	key := [2]int64{m.cpu, m.memory}
	g := cl.groups[key]
	if g == nil {
		g = cl.newGroup(i)
		cl.groups[key] = g
		cl.lead(i, m.cell)
	} else {
		cl.join(g, i, m.cell)
	}
	m.group = g
}

func (cl *class) newGroup(leader int32) *group {
	last := len(cl.spareGroups) - 1
	if last < 0 {
		return &group{leader: leader, count: 1}
	}
	g := cl.spareGroups[last]
	cl.spareGroups = cl.spareGroups[:last]
	g.leader, g.count = leader, 1
	if g.members != nil {
		g.members.add(leader)
	}
	return g
}

func (cl *class) join(g *group, i, at int32) {
	if g.members == nil {
		g.members = newBitset(len(cl.members))
		g.members.add(g.leader)
	}
	g.members.add(i)
	g.count++
	if i < g.leader {
		cl.lead(i, at)
		cl.follow(g.leader, at)
		g.leader = i
	}
}

// leave takes the member, as it was, out of its group.
func (cl *class) leave(i int32, was *member) {
	g := was.group
	if g.members != nil {
		g.members.remove(i)
	}
	if g.count--; g.count == 0 {
		delete(cl.groups, [2]int64{was.cpu, was.memory})
		cl.spareGroups = append(cl.spareGroups, g)
		cl.follow(i, was.cell)
		return
	}
	if g.leader == i {
		g.leader = g.members.next(i + 1)
		cl.lead(g.leader, was.cell)
		cl.follow(i, was.cell)
	}
}

// lead enters a leader into a cell.
func (cl *class) lead(i, at int32) {
	c := cl.cells[at]
	if c == nil {
		if last := len(cl.spareCells) - 1; last >= 0 {
			c, cl.spareCells = cl.spareCells[last], cl.spareCells[:last]
		} else {
			c = &cell{bitset: newBitset(len(cl.members))}
		}
		cl.cells[at] = c
		cl.mark(at, true)
	}
	c.add(i)
	c.count++
}

// follow takes a leader out of a cell.
func (cl *class) follow(i, at int32) {
	c := cl.cells[at]
	c.remove(i)
	if c.count--; c.count == 0 {
		cl.cells[at] = nil
		cl.spareCells = append(cl.spareCells, c)
		cl.mark(at, false)
	}
}

// mark notes whether a cell has members. A row holds all cells with the same sum
// of cpu and memory percent.
func (cl *class) mark(at int32, used bool) {
	c := at / percents
	row := c + at%percents
	bit, in := uint64(1)<<(uint32(c)&63), &cl.rows[row][c>>6] //nolint:gosec // not negative
	if used {
		*in |= bit
		cl.rowsUsed[row>>6] |= 1 << (uint32(row) & 63) //nolint:gosec // not negative
		return
	}
	if *in &^= bit; cl.rows[row] == [2]uint64{} {
		cl.rowsUsed[row>>6] &^= 1 << (uint32(row) & 63) //nolint:gosec // not negative
	}
}

// nextRow is the next row with members from row on, upwards or downwards; -1: none.
func (cl *class) nextRow(row int, up bool) int {
	for row >= 0 && row < len(cl.rows) {
		word := cl.rowsUsed[row>>6]
		if up {
			if rest := word >> (row & 63); rest != 0 {
				return row + bits.TrailingZeros64(rest)
			}
			row = (row>>6 + 1) << 6
		} else {
			if rest := word << (63 - row&63); rest != 0 {
				return row - bits.LeadingZeros64(rest)
			}
			row = row>>6<<6 - 1
		}
	}
	return -1
}
