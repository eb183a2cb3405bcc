package scheduler

// The filters look at a survey. To ask them what would be if a replica stood
// elsewhere, or nowhere, the survey is corrected by that replica instead of
// being made anew: that takes a time that does not grow with the cluster.

// shift counts one replica of the placed shape on the node, by 1, or takes it
// off, by -1, in all that the filters look at beyond the node itself. The scores
// do not follow.
func (v *survey) shift(n *node, placed *Shape, by int) {
	t := v.related(placed)
	for _, i := range t.near {
		v.near[i].shift(n, v.shape.template.Affinity[i].TopologyKey, by)
	}
	for _, i := range t.far {
		v.far[i].shift(n, v.shape.template.Anti[i].TopologyKey, by)
	}
	for _, key := range t.repels {
		if d, ok := n.domain(key); ok {
			v.repelled.add(key, d, int64(by))
		}
	}
	if t.same && len(v.spread) > 0 {
		v.countSpread(n, by)
		for i := range v.spread {
			v.spread[i].setLeast()
		}
	}
}

// shift changes the count of the node's domain. A domain without any is left out.
func (c counts) shift(n *node, key string, by int) {
	d, ok := n.domain(key)
	if !ok {
		return
	}
	if c[d] += by; c[d] == 0 {
		delete(c, d)
	}
}

// lift takes a placement as gone.
func (v *survey) lift(slot int32) {
	r := &v.cluster.records[slot]
	v.gone[slot] = true
	v.shift(v.cluster.nodes[r.node], r.shape, -1)
}

// put takes a placement that was lifted as standing again.
func (v *survey) put(slot int32) {
	r := &v.cluster.records[slot]
	delete(v.gone, slot)
	v.shift(v.cluster.nodes[r.node], r.shape, 1)
}
