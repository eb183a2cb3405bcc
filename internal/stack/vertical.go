package stack

import (
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/vertical"
	"github.com/berth-dev/berth/scheduler"
)

// sizing reads x-berth.resources.
func (t *translator) sizing(s *Service, c types.ServiceConfig, ext setting) error {
	if !ext.given() {
		return nil
	}
	v := &Vertical{Mode: VerticalMode(ext.get("mode").text())}
	var err error
	if v.Bounds.Min, err = amounts(ext.get("min")); err != nil {
		return err
	}
	if v.Bounds.Max, err = amounts(ext.get("max")); err != nil {
		return err
	}
	switch v.Mode {
	case "off":
		return nil
	case "":
		v.Mode = Recommend
	case Recommend, Resize:
	}
	if err := t.resizable(v, c, ext); err != nil {
		return err
	}
	s.Vertical = v
	return nil
}

// resizable holds the bounds against each other, and against what the service has
// and is promised.
func (t *translator) resizable(v *Vertical, c types.ServiceConfig, ext setting) error {
	l := limits(c)
	if v.Mode == Resize && l.NanoCPUs == 0 && l.Memory == 0 {
		return ext.fail("changes the limits, but the service has none; give deploy.resources.limits, or mode: recommend")
	}
	low, high := v.Bounds.Min, v.Bounds.Max
	for _, b := range []sizeBounds{
		{"cpus", scheduler.CPU, low.CPU, high.CPU, l.NanoCPUs, reservedCPU(c)},
		{"memory", scheduler.Memory, low.Memory, high.Memory, l.Memory, l.MemoryReservation},
	} {
		least, most := ext.get("min").get(b.key), ext.get("max").get(b.key)
		switch {
		case most.given() && b.least > b.most:
			return least.fail("is %s, more than max, which is %s", b.text(b.least), b.text(b.most))
		case most.given() && b.promised > b.most:
			return most.fail("is %s, less than the %s that the service reserves (%s)", b.text(b.most), b.text(b.promised), reservedKeys[b.resource])
		case v.Mode == Resize && b.limit == 0 && least.given():
			t.warn("has no effect: the service has no limit of "+b.resource+" that could be changed", least.path...)
		case v.Mode == Resize && b.limit == 0 && most.given():
			t.warn("has no effect: the service has no limit of "+b.resource+" that could be changed", most.path...)
		}
	}
	return nil
}

// sizeBounds are the bounds of one resource, and what a service has of it.
type sizeBounds struct {
	key, resource                string
	least, most, limit, promised int64
}

func (b sizeBounds) text(n int64) string { return scheduler.FormatAmount(b.resource, n) }

// amounts reads so much of both resources; 0 where one is not given.
func amounts(s setting) (vertical.Amounts, error) {
	var a vertical.Amounts
	var err error
	if a.CPU, err = s.get("cpus").amount(scheduler.CPU); err != nil {
		return a, err
	}
	a.Memory, err = s.get("memory").amount(scheduler.Memory)
	return a, err
}

// reservedCPU is what each replica has promised, in millicores.
func reservedCPU(c types.ServiceConfig) int64 {
	if c.Deploy == nil || c.Deploy.Resources.Reservations == nil {
		return 0
	}
	return nanoCPUs(float32(c.Deploy.Resources.Reservations.NanoCPUs)) / 1_000_000
}

// warm reads how many paused replicas are kept.
func (t *translator) warm(s *Service, ext setting) error {
	var err error
	if s.Warm, err = ext.integer(0); err != nil || s.Warm == 0 {
		return err
	}
	switch {
	case s.Warm > scaling.MaxReplicas:
		return ext.fail("%d is not between 0 and %d", s.Warm, scaling.MaxReplicas)
	case s.Mode != Replicated:
		return ext.fail("cannot be given with mode: %s, whose number of replicas is not free; drop one of them", s.Mode)
	}
	return t.several(s, ext)
}
