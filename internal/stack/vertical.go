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
	l := limits(c)
	has := vertical.Amounts{CPU: l.NanoCPUs, Memory: l.Memory}
	if v.Mode == Resize && has == (vertical.Amounts{}) {
		return ext.fail("changes the limits, but the service has none; give deploy.resources.limits, or mode: recommend")
	}
	for _, part := range []struct {
		key, resource              string
		least, most, has, promised int64
	}{
		{"cpus", scheduler.CPU, v.Bounds.Min.CPU, v.Bounds.Max.CPU, has.CPU, reservedCPU(c)},
		{"memory", scheduler.Memory, v.Bounds.Min.Memory, v.Bounds.Max.Memory, has.Memory, l.MemoryReservation},
	} {
		format := func(n int64) string { return scheduler.FormatAmount(part.resource, n) }
		least, most := ext.get("min").get(part.key), ext.get("max").get(part.key)
		switch {
		case part.most > 0 && part.least > part.most:
			return least.fail("is %s, more than max, which is %s", format(part.least), format(part.most))
		case part.most > 0 && part.promised > part.most:
			return most.fail("is %s, less than the %s that the service reserves (%s)", format(part.most), format(part.promised), reservedKeys[part.resource])
		case v.Mode == Resize && part.has == 0 && (least.given() || most.given()):
			t.warn("has no effect: the service has no limit of "+part.resource+" that could be changed", ext.path...)
		}
	}
	s.Vertical = v
	return nil
}

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
