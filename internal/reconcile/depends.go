package reconcile

import (
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// dependenciesMet reports whether every dependency of a service has reached its
// condition; if not, it holds the replica with the reason.
func (v *view) dependenciesMet(svc *stack.Service, slot int, name string) bool {
	var created time.Time
	if c := v.byName[name]; c != nil {
		created = c.Created
	}
	for _, dep := range svc.DependsOn {
		kind, why := v.dependency(dep)
		if why == "" || (!dep.Required && kind == HoldFailing) {
			continue
		}
		h := Hold{Kind: kind, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: name, Reason: why}
		v.deadline(svc, created, &h)
		v.hold(h)
		v.moves(svc.Name, h)
		return false
	}
	return true
}

// deadline turns a hold that has waited longer than the service allows into a
// failing one: whoever waits for the stack hears of it. The replica starts all
// the same once its dependency has come.
func (v *view) deadline(svc *stack.Service, created time.Time, h *Hold) {
	if svc.DependencyDeadline == 0 || created.IsZero() || h.Kind != HoldWaiting {
		return
	}
	if end := created.Add(svc.DependencyDeadline); v.now.Before(end) {
		h.Until = end
		return
	}
	h.Kind = HoldFailing
	h.Reason += fmt.Sprintf("; not reached within %s", svc.DependencyDeadline)
}

// dependency says why a dependency has not reached its condition yet; empty
// when it has.
func (v *view) dependency(dep stack.Dependency) (HoldKind, string) {
	svc := v.d.Stack.Service(dep.Service)
	want := v.want(dep.Service)
	switch {
	case svc == nil || want == WantAbsent || v.d.Replicas(svc) == 0:
		return "", "" // not part of what runs (another profile, --no-deps, scaled to none)
	case v.d.Services[dep.Service].Rest != nil:
		return "", "" // the first connection wakes it
	case want != WantRunning:
		return HoldFailing, fmt.Sprintf("dependency %s is to be %s; start it first", dep.Service, want)
	}
	if h, moving := v.moving[dep.Service]; moving {
		if h.Kind == HoldFailing {
			return HoldFailing, fmt.Sprintf("dependency %s: %s", dep.Service, h.Reason)
		}
		return HoldWaiting, fmt.Sprintf("waits for %s: %s %s", dep.Service, h.Name, h.Reason)
	}
	for _, slot := range v.slotsOf(svc) {
		cur, _ := v.split(svc, v.replicas[dep.Service][slot])
		kind, why := v.reached(dep, svc, cur)
		if kind == HoldFailing && dep.Condition == stack.Completed && v.triesAgain(svc, slot, cur) {
			kind, why = HoldWaiting, fmt.Sprintf("waits for %s to complete: %s, its restart_policy tries again", cur.Name, v.exitReason(cur))
		}
		if why != "" {
			return kind, why
		}
	}
	return "", ""
}

// triesAgain reports whether a job that has failed is restarted by its policy.
func (v *view) triesAgain(svc *stack.Service, slot int, c *member) bool {
	p := svc.Restart
	if c == nil || p == nil || p.Condition == "none" {
		return false
	}
	count, _ := v.attempts(ReplicaKey(svc.Name, slot), c.id.Revision, p.Window)
	return p.MaxAttempts == 0 || count < p.MaxAttempts
}

// reached says why one container has not reached the condition of a dependency.
func (v *view) reached(dep stack.Dependency, svc *stack.Service, c *member) (HoldKind, string) {
	if c == nil || c.Started.IsZero() && !c.State.Alive() {
		return HoldWaiting, fmt.Sprintf("waits for %s to start", dep.Service)
	}
	var kind HoldKind
	var why string
	switch dep.Condition {
	case stack.Completed:
		kind, why = reachedEnd(c)
	case stack.Healthy:
		kind, why = v.reachedReady(svc, c)
	case stack.Started:
	}
	if kind == HoldFailing {
		v.plan.Culprits = append(v.plan.Culprits, c.ID)
		if tail := v.o.Tails[c.ID]; tail != "" {
			why += "; its last output: " + tail
		}
	}
	return kind, why
}

func reachedEnd(c *member) (HoldKind, string) {
	switch {
	case c.State.Alive():
		return HoldWaiting, fmt.Sprintf("waits for %s to complete", c.Name)
	case c.ExitCode != 0:
		return HoldFailing, fmt.Sprintf("dependency %s didn't complete successfully: exit %d", c.Name, c.ExitCode)
	default:
		return "", ""
	}
}

// reachedReady says why a container is not ready. With a readiness probe that is
// what counts, else the engine's healthcheck.
func (v *view) reachedReady(svc *stack.Service, c *member) (HoldKind, string) {
	if !c.State.Alive() && v.willReturn(svc, c) {
		return HoldWaiting, fmt.Sprintf("waits for %s to be restarted", c.Name)
	}
	if !c.State.Alive() {
		return HoldFailing, fmt.Sprintf("dependency %s exited (%d) before it was healthy", c.Name, c.ExitCode)
	}
	if !svc.Probes.Empty() && !v.probesPass(svc, c) {
		return HoldWaiting, strings.TrimSuffix(fmt.Sprintf("waits for %s to be ready: %s", c.Name, v.whyUnready(svc, c)), ": ")
	}
	switch {
	case svc.Probes.Readiness != nil && c.State == runtime.Running:
		return "", ""
	case c.Health == runtime.HealthHealthy && c.State == runtime.Running:
		return "", ""
	case c.Health == runtime.HealthNone:
		return HoldFailing, fmt.Sprintf("dependency %s has no healthcheck; give it one or use condition: service_started", c.Name)
	case c.Health == runtime.HealthUnhealthy:
		return HoldFailing, strings.TrimSuffix(fmt.Sprintf("dependency %s is unhealthy: %s", c.Name, lastLine(c.HealthOutput)), ": ")
	default:
		return HoldWaiting, fmt.Sprintf("waits for %s to be healthy", c.Name)
	}
}

// lastLine is the last line of a check's output that says something, cut to
// what fits one line.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	s := strings.TrimSpace(lines[len(lines)-1])
	if r := []rune(s); len(r) > 120 {
		s = string(r[:120]) + "…"
	}
	return s
}
