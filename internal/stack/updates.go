package stack

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// Where the two ways of replacing replicas stand in a service.
const (
	updateKey   = "deploy.update_config"
	rollBackKey = "deploy.rollback_config"
)

// updates checks deploy.update_config and deploy.rollback_config. A job's
// replicas have none of the first, which mode checks, nor of the second.
func (c *checker) updates(s types.ServiceConfig) error {
	if s.Deploy == nil {
		return nil
	}
	if m := mode(s); m.Job() && s.Deploy.RollbackConfig != nil {
		return c.bad(s, rollBackKey, "cannot be given with mode: %s: a changed job is run again, not updated; drop it", m)
	}
	if err := c.update(s, updateKey, s.Deploy.UpdateConfig, "pause", "continue", "rollback"); err != nil {
		return err
	}
	return c.update(s, rollBackKey, s.Deploy.RollbackConfig, "pause", "continue")
}

// update checks one of them, which takes the given failure actions.
func (c *checker) update(s types.ServiceConfig, key string, u *types.UpdateConfig, actions ...string) error {
	if u == nil {
		return nil
	}
	orders := []string{"stop-first", string(StartFirst)}
	switch ratio := failureRatio(u); {
	case u.FailureAction == string(RollBackOnFailure) && !slices.Contains(actions, u.FailureAction):
		return c.bad(s, key+".failure_action", "a roll-back is never rolled back; write pause or continue")
	case u.FailureAction != "" && !slices.Contains(actions, u.FailureAction):
		return c.bad(s, key+".failure_action", "%q is not one of %s", clip(u.FailureAction), strings.Join(actions, ", "))
	case u.Order != "" && !slices.Contains(orders, u.Order):
		return c.bad(s, key+".order", "%q is not one of %s", clip(u.Order), strings.Join(orders, ", "))
	case u.Delay < 0:
		return c.bad(s, key+".delay", "%s is less than nothing", time.Duration(u.Delay))
	case u.Monitor < 0:
		return c.bad(s, key+".monitor", "%s is less than nothing", time.Duration(u.Monitor))
	case !(ratio >= 0 && ratio <= 1): // also not NaN
		return c.bad(s, key+".max_failure_ratio", "%s is not between 0 and 1", plain(ratio))
	}
	return nil
}

// updateOf reads deploy.update_config or deploy.rollback_config. As in Swarm, a
// monitor of 0 is one that is not given.
func updateOf(c *types.UpdateConfig) Update {
	u := DefaultUpdate()
	if c == nil {
		return u
	}
	if c.Parallelism != nil {
		u.Parallelism = int(min(*c.Parallelism, maxReplicas)) // #nosec G115 -- bounded
	}
	u.Delay = time.Duration(c.Delay)
	if c.Monitor > 0 {
		u.Monitor = time.Duration(c.Monitor)
	}
	u.MaxFailureRatio = failureRatio(c)
	if c.FailureAction != "pause" {
		u.Action = FailureAction(c.FailureAction)
	}
	if c.Order != "stop-first" {
		u.Order = Order(c.Order)
	}
	return u
}

// failureRatio is max_failure_ratio as the file has it: the library keeps a
// float32, whose shortest text it is.
func failureRatio(c *types.UpdateConfig) float64 {
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(c.MaxFailureRatio), 'g', -1, 32), 64)
	return f
}

// rollout reads what x-berth.rollout adds to update_config.
func (t *translator) rollout(s *Service, c types.ServiceConfig, ext setting) error {
	if !ext.given() {
		return nil
	}
	if s.Mode.Job() {
		return ext.fail("cannot be given with mode: %s: a changed job is run again, not updated; drop it", s.Mode)
	}
	r := &s.Rollout
	var err error
	if r.Surge, err = ext.get("maxSurge").share(mostSurge); err != nil {
		return err
	}
	if r.Unavailable, err = ext.get("maxUnavailable").share(100); err != nil {
		return err
	}
	if err := t.saidTwice(c, ext); err != nil {
		return err
	}
	if err := rolloutTimes(r, ext); err != nil {
		return err
	}
	r.Canary, err = readCanary(ext.get("canary"))
	return err
}

// mostSurge bounds maxSurge, in percent; more is a typing error.
const mostSurge = 1000

// saidTwice refuses maxSurge and maxUnavailable beside parallelism and order,
// whose place they take both in an update and in a roll-back.
func (t *translator) saidTwice(c types.ServiceConfig, ext setting) error {
	bound := ext.get("maxSurge")
	if !bound.given() {
		bound = ext.get("maxUnavailable")
	}
	if !bound.given() || c.Deploy == nil {
		return nil
	}
	for _, part := range []struct {
		key    string
		config *types.UpdateConfig
	}{{updateKey, c.Deploy.UpdateConfig}, {rollBackKey, c.Deploy.RollbackConfig}} {
		key := part.key
		switch {
		case part.config == nil:
			continue
		case part.config.Parallelism != nil:
			key += ".parallelism"
		case part.config.Order != "":
			key += ".order"
		default:
			continue
		}
		at := append([]string{"services", c.Name}, strings.Split(key, ".")...)
		return bound.fail("and %s (%s) say the same thing twice; keep one", key, t.position(at...))
	}
	return nil
}

// rolloutTimes reads minReady and progressDeadline. As in a Kubernetes
// Deployment the second is the longer one, else every update would fail.
func rolloutTimes(r *Rollout, ext setting) error {
	ready, deadline := ext.get("minReady"), ext.get("progressDeadline")
	if ready.given() {
		d, err := ready.duration()
		if err != nil {
			return err
		}
		r.MinReady = &d
	}
	if deadline.given() {
		d, err := deadline.duration()
		if err != nil {
			return err
		}
		r.Deadline = d
	}
	least := time.Duration(0)
	if r.MinReady != nil {
		least = *r.MinReady
	}
	switch {
	case r.Deadline > least:
		return nil
	case deadline.given():
		return deadline.fail("%s is not longer than minReady, which is %s; no update could ever be in time", r.Deadline, least)
	}
	return ready.fail("%s is not shorter than progressDeadline, which is %s unless it is given; no update could ever be in time", least, r.Deadline)
}

// readCanary reads the steps of a canary, which are all counts or all
// percentages, as the two cannot be compared.
func readCanary(s setting) (*Canary, error) {
	if !s.given() {
		return nil, nil
	}
	c := &Canary{}
	var err error
	if c.Hold, err = s.get("hold").duration(); err != nil {
		return nil, err
	}
	for _, at := range s.get("steps").list() {
		step, err := at.share(100)
		if err != nil {
			return nil, err
		}
		if err := follows(at, c.Steps, *step); err != nil {
			return nil, err
		}
		c.Steps = append(c.Steps, *step)
	}
	if len(c.Steps) == 0 {
		return nil, s.fail("has no steps; write steps: [10%%, 50%%]")
	}
	return c, nil
}

// follows wants a step that is larger than the last one.
func follows(at setting, before []Share, step Share) error {
	if step.Count+step.Percent == 0 {
		return at.fail("is nothing; a step is at least one replica")
	}
	if len(before) == 0 {
		return nil
	}
	last := before[len(before)-1]
	if last.IsShare != step.IsShare {
		return at.fail("is %s after %s; give counts or percentages, not both", step, last)
	}
	if step.Count+step.Percent <= last.Count+last.Percent {
		return at.fail("is %s after %s; each step is larger than the last", step, last)
	}
	return nil
}

// share is a number of replicas, or a percentage up to the given one; nil where
// it is not given.
func (s setting) share(most uint64) (*Share, error) {
	if !s.given() {
		return nil, nil
	}
	text, percent := strings.CutSuffix(s.text(), "%")
	n, err := strconv.ParseUint(text, 10, 31)
	switch {
	case err != nil:
		return nil, s.fail("%q is neither a number of replicas nor a percentage such as 25%%", clip(s.text()))
	case percent && n > most:
		return nil, s.fail("%d%% is not between 0%% and %d%%", n, most)
	case percent:
		return &Share{Percent: int(n), IsShare: true}, nil
	case n > maxReplicas:
		return nil, s.fail("%d is not between 0 and %d", n, maxReplicas)
	}
	return &Share{Count: int(n)}, nil
}
