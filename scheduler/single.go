package scheduler

// Rejects says why the named node does not take one more replica of the shape;
// empty when it does.
func (c *Cluster) Rejects(s *Shape, nodeName string) string {
	n, err := c.named(nodeName)
	if err != nil {
		return err.Error()
	}
	if s == nil || s.cluster != c {
		return errForeignShape.Error()
	}
	return c.survey(s, nil).rejection(n).String()
}

// RejectsSuccessor is Rejects for a replica whose predecessor was on the named
// node and has been released: a node that runs out of something keeps what it has.
func (c *Cluster) RejectsSuccessor(s *Shape, nodeName string) string {
	n, err := c.named(nodeName)
	if err != nil {
		return err.Error()
	}
	if s == nil || s.cluster != c {
		return errForeignShape.Error()
	}
	v := c.survey(s, nil)
	v.succeeds = true
	return v.rejection(n).String()
}

// Excludes says why the named node is none for the shape at all, whatever stands
// there: its taints, its platform or its labels. Empty: it may be one. A service
// with one replica on each node means the nodes that are not excluded.
func (c *Cluster) Excludes(s *Shape, nodeName string) string {
	n, err := c.named(nodeName)
	if err != nil {
		return err.Error()
	}
	v := &survey{cluster: c, shape: s}
	for _, f := range filters {
		switch f.name {
		case FilterTaints, FilterPlatform, FilterConstraints, FilterNodeAffinity:
			if !f.pass(v, n) {
				return f.why(v, n).String()
			}
		}
	}
	return ""
}
