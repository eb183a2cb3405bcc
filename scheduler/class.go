package scheduler

import (
	"cmp"
	"math/bits"
	"slices"
)

// class is the nodes that differ in nothing but in what is placed on them: of one
// capacity, with the same taints, state, platform and values of all labels that
// a template mentions.
//
// Members of which exactly as much is used form a group, and stand in the index
// as their leader, the first of them. The leaders are sorted into cells by what
// share of their cpu and memory is used, in halves of a percent. All scores that depend on
// use can be bounded for a cell as a whole, so that a search looks into few of
// them. A small class has neither.
type class struct {
	id      int32
	sample  *node // any member: it stands for all in what they share
	members []member
	more    bool    // disk and network are scored too
	soft    int     // members of which the scores count more than is reserved
	late    []int32 // members whose change was postponed

	groups   map[amounts]*group // by what is used of the resources that are scored
	cells    []*cell            // by place of cpu · side + place of memory; nil: empty. nil slice: no cells
	firsts   []int32            // by the same: the index of the first leader's node
	rows     [][rowWords]uint64 // by the sum of both places: the places of cpu in use
	rowsUsed [(rowCount + 63) / 64]uint64

	divides   bool // the following hold
	byAlloc   [2]divisor
	byProduct divisor

	spareCells  []*cell
	spareGroups []*group
}

// A cell spans a part of a percent of cpu and as much of memory. More of them
// say more exactly what their members score, fewer are looked through faster.
const (
	cellsAPercent = 2
	side          = 100*cellsAPercent + 1 // places, 0 to 100 percent
	rowCount      = 2*side - 1
	rowWords      = (side + 63) / 64
)

// smallClass is the size up to which looking at every member is as fast.
const smallClass = 24

// member is one node of a class.
type member struct {
	node    *node
	index   int32 // of the node
	without int64 // balance as it is
	cpu     int64 // as the scores count it, at most the capacity
	memory  int64
	key     amounts // of its group
	group   *group
	cell    int32
	soft    bool
	late    bool // it has changed since
}

// group is the members with the same use.
type group struct {
	leader  int32
	count   int
	members *bitset // nil: the leader alone
}

// cell is the leaders in it, sorted by member. The first few stand beside their
// slice, so that a look at them is one look into memory.
type cell struct {
	leaders []leader
	few     [4]leader
}

// leader is what a search asks of a member that leads a group: together with
// those of the same cell, as looks into the members one by one are slow.
type leader struct {
	member, index        int32
	cpu, memory, without int64
}

func (l leader) compare(member int32) int { return cmp.Compare(l.member, member) }

func (cl *class) add(n *node) {
	n.class, n.member = cl, int32(len(cl.members)) //nolint:gosec // bounded by memory
	cl.members = append(cl.members, member{node: n, index: n.index})
}

// fill sorts the members into cells, once all are added.
func (cl *class) fill() {
	if len(cl.members) > smallClass {
		cl.cells, cl.rows, cl.groups = make([]*cell, side*side), make([][rowWords]uint64, rowCount), map[amounts]*group{}
		cl.firsts = make([]int32, side*side)
		cl.divide()
	}
	for i := range cl.members {
		m := &cl.members[i]
		cl.measure(m)
		if cl.cells != nil {
			cl.enter(int32(i), m)
		}
	}
}

// divide prepares to score by multiplication, where the products that the balance
// needs are within an integer.
func (cl *class) divide() {
	alloc := &cl.sample.alloc
	hi, product := bits.Mul64(uint64(alloc[cpu]), uint64(alloc[memory])) //nolint:gosec // not negative
	if cl.divides = hi == 0 && product > 0 && product < 1<<56; cl.divides {
		cl.byAlloc = [2]divisor{newDivisor(alloc[cpu]), newDivisor(alloc[memory])}
		cl.byProduct = newDivisor(alloc[cpu] * alloc[memory])
	}
}

// measure reads the node's use and finds its cell.
func (cl *class) measure(m *member) {
	n := m.node
	alloc := &n.alloc
	m.read()
	if cl.cells != nil {
		m.cell = int32(place(m.cpu, alloc[cpu])*side + place(m.memory, alloc[memory])) //nolint:gosec // below side²
	}
	m.key = amounts{cpu: m.cpu, memory: m.memory}
	if cl.more {
		m.key[disk], m.key[network] = n.scored[disk], n.scored[network]
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

// read takes over what the node uses.
func (m *member) read() {
	n := m.node
	alloc := &n.alloc
	m.cpu, m.memory = min(n.scored[cpu], alloc[cpu]), min(n.scored[memory], alloc[memory])
	if alloc[cpu] > 0 && alloc[memory] > 0 {
		m.without = balance(m.cpu, alloc[cpu], m.memory, alloc[memory])
	}
}

// place is the cell of used/alloc.
func place(used, alloc int64) int64 {
	if alloc == 0 {
		return 0
	}
	return used * (side - 1) / alloc
}

// changed follows a change of what is placed on the member.
func (cl *class) changed(i int32) {
	m := &cl.members[i]
	was := *m
	cl.measure(m)
	if cl.cells != nil && m.key != was.key {
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

// enter joins the member to the group of its use.
func (cl *class) enter(i int32, m *member) {
	g := cl.groups[m.key]
	if g == nil {
		g = cl.newGroup(i)
		cl.groups[m.key] = g
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
		delete(cl.groups, was.key)
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
		c = cl.newCell()
		cl.cells[at] = c
		cl.mark(at, true)
	}
	m := &cl.members[i]
	to, _ := slices.BinarySearchFunc(c.leaders, i, leader.compare)
	c.leaders = slices.Insert(c.leaders, to, leader{i, m.index, m.cpu, m.memory, m.without})
	cl.firsts[at] = c.leaders[0].index
}

func (cl *class) newCell() *cell {
	last := len(cl.spareCells) - 1
	if last < 0 {
		c := &cell{}
		c.leaders = c.few[:0]
		return c
	}
	c := cl.spareCells[last]
	cl.spareCells = cl.spareCells[:last]
	return c
}

// follow takes a leader out of a cell.
func (cl *class) follow(i, at int32) {
	c := cl.cells[at]
	from, _ := slices.BinarySearchFunc(c.leaders, i, leader.compare)
	c.leaders = slices.Delete(c.leaders, from, from+1)
	if len(c.leaders) > 0 {
		cl.firsts[at] = c.leaders[0].index
		return
	}
	cl.cells[at] = nil
	cl.spareCells = append(cl.spareCells, c)
	cl.mark(at, false)
}

// mark notes whether a cell has members.
func (cl *class) mark(at int32, used bool) {
	c := int(at / side)
	row := c + int(at%side)
	if used {
		cl.rows[row][c>>6] |= 1 << (c & 63)
		cl.rowsUsed[row>>6] |= 1 << (row & 63)
		return
	}
	if cl.rows[row][c>>6] &^= 1 << (c & 63); cl.rows[row] == [rowWords]uint64{} {
		cl.rowsUsed[row>>6] &^= 1 << (row & 63)
	}
}
