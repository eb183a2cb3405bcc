package scheduler

import "math/bits"

// class is the nodes that differ in nothing but in what is placed on them: of one
// capacity, with the same taints, state, platform and values of all labels that
// a template mentions.
//
// Its members are sorted into cells by how many whole percent of their cpu and
// memory are used. All scores that depend on use can be bounded for a cell as a
// whole, so that a search looks into few of them. A small class has no cells.
type class struct {
	id      int32
	sample  *node // any member: it stands for all in what they share
	members []member
	soft    int // members of which the scores count more than is reserved

	cells    []*cell // by cpu percent · percents + memory percent; nil: empty. nil slice: no cells
	rows     [2*percents - 1][2]uint64
	rowsUsed [4]uint64
	spare    []*cell
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
	cell    int32
	soft    bool
}

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
		cl.cells = make([]*cell, percents*percents)
	}
	for i := range cl.members {
		m := &cl.members[i]
		cl.measure(m)
		if cl.cells != nil {
			cl.enter(int32(i), m.cell) //nolint:gosec // bounded by memory
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
	from := m.cell
	cl.measure(m)
	if cl.cells != nil && m.cell != from {
		cl.leave(i, from)
		cl.enter(i, m.cell)
	}
}

func (cl *class) enter(i, at int32) {
	c := cl.cells[at]
	if c == nil {
		if last := len(cl.spare) - 1; last >= 0 {
			c, cl.spare = cl.spare[last], cl.spare[:last]
		} else {
			c = &cell{bitset: newBitset(len(cl.members))}
		}
		cl.cells[at] = c
		cl.mark(at, true)
	}
	c.add(i)
	c.count++
}

func (cl *class) leave(i, at int32) {
	c := cl.cells[at]
	c.remove(i)
	if c.count--; c.count == 0 {
		cl.cells[at] = nil
		cl.spare = append(cl.spare, c)
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
