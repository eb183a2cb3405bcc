package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Settle forgets what services would go back to, since their present revision is
// good. Of an atomic up all are forgotten together. It returns the new wish, or
// nil when nothing is to be forgotten; d is not changed.
func (d *Desired) Settle(services []string) *Desired {
	if len(services) == 0 {
		return nil
	}
	if d.Atomic {
		for name, st := range d.Services {
			if (st.Base != nil || st.Added) && !slices.Contains(services, name) {
				return nil
			}
		}
	}
	next := *d
	next.Services = maps.Clone(d.Services)
	next.Atomic = false
	for _, name := range services {
		st := next.Services[name]
		st.Base, st.Added = nil, false
		next.Services[name] = st
	}
	return &next
}

// GoBack takes services back to their last good revisions, for the reasons given
// by service; of an atomic up it takes all of them. It returns the new wish, or nil
// when there is nothing to go back to; d is not changed.
func (d *Desired) GoBack(why map[string]string, now time.Time) *Desired {
	next := *d
	merged := *d.Stack
	merged.Services = slices.Clone(d.Stack.Services)
	next.Stack, next.Services, next.Atomic = &merged, maps.Clone(d.Services), false
	changed := false
	for i := range merged.Services {
		svc := &merged.Services[i]
		st := d.Services[svc.Name]
		reason, failed := why[svc.Name]
		if !failed && !d.Atomic {
			continue
		}
		st.RolledBack = &RolledBack{From: svc.Revision, Why: cmp.Or(reason, FirstWhy(why)), At: now}
		switch {
		case st.Base != nil:
			good := st.Base.Service
			good.Update, good.RollBack, good.Rollout = svc.Update, svc.RollBack, svc.Rollout // how, is as written now
			st.ChangedFrom, st.Changed = svc.Revision, []string{"roll-back"}
			*svc, st.ImageID, st.Base = good, st.Base.ImageID, nil
		case d.Atomic && st.Added:
			st.Want, st.Added = WantAbsent, false
		default:
			continue
		}
		next.Services[svc.Name], changed = st, true
	}
	if !changed {
		return nil
	}
	return &next
}

// FirstWhy is the reason of the first of the services that go back, by name, with
// that name before it; there is at least one.
func FirstWhy(why map[string]string) string {
	name := sortedKeys(why)[0]
	return name + ": " + why[name]
}
