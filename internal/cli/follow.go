package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/reconcile"
)

// The ends a stack is followed until.
const (
	untilSettled = "settled"
	untilReady   = "ready"
)

// follow shows a stack's progress from an accepted request on, until it is
// settled or ready, and returns what could not be reached as an error.
func (a *app) follow(ctx context.Context, d daemon, acc api.Accepted, until string) error {
	ui := a.progress("Running")
	defer ui.Stop()
	return a.followWith(ctx, d, acc, until, func(e api.Event) error {
		showEvent(ui, e)
		return nil
	})
}

// followWith is follow with a look at each event before the end.
func (a *app) followWith(ctx context.Context, d daemon, acc api.Accepted, until string, see func(api.Event) error) error {
	for _, w := range acc.Warnings {
		a.note(w)
	}
	var end *api.Event
	err := d.Follow(ctx, acc.Stack, client.FollowOptions{Turn: acc.Turn, Until: until}, func(e api.Event) error {
		if e.Type == api.EventSettled {
			end = &e
		}
		return see(e)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return interrupted(ctx, acc.Stack)
	case err != nil:
		return err
	case end == nil:
		return fmt.Errorf("follow stack %s: the daemon ended before it was %s; run the command again", acc.Stack, until)
	}
	a.noteOrphans(acc.Stack, end.Orphans)
	return endError(end)
}

// noteOrphans warns of containers that no service explains, as Compose does,
// once for each declaration.
func (a *app) noteOrphans(stack string, names []string) {
	if !a.tellOrphans.CompareAndSwap(true, false) || len(names) == 0 || a.env.enabled("COMPOSE_IGNORE_ORPHANS") {
		return
	}
	a.note(fmt.Sprintf("stack %s: no service of the file explains %s; --remove-orphans removes what Berth made of it, --adopt takes over what others made", stack, strings.Join(names, ", ")))
}

// note prints a warning to standard error.
func (a *app) note(text string) {
	if a.global.progress != "quiet" {
		_, _ = fmt.Fprintln(a.env.Err, "warning:", sanitize(text))
	}
}

// endError is what an end says could not be reached.
func endError(end *api.Event) error {
	if len(end.Failed) > 0 {
		errs := make([]error, len(end.Failed))
		for i, f := range end.Failed {
			errs[i] = errors.New(sanitize(f))
		}
		return errors.Join(errs...)
	}
	if end.Err != "" {
		return errors.New(sanitize(end.Err))
	}
	return nil
}

func interrupted(ctx context.Context, stack string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("stack %s: not ready in time; berth -p %s ps -a shows what it waits for", stack, stack)
	}
	return &ExitError{Code: 130, Err: fmt.Errorf("stack %s: interrupted; the daemon goes on with it, berth -p %s stop ends it", stack, stack)}
}

// showEvent turns a stack's event into an item of progress.
func showEvent(ui progress, e api.Event) {
	switch e.Type {
	case api.EventStep:
		if e.Step != nil {
			showStep(ui, e)
		}
	case api.EventHold:
		if e.Hold != nil {
			showHold(ui, e.Hold)
		}
	case api.EventRollout:
		if e.Rollout != nil {
			showRollout(ui, e.Rollout)
		}
	case api.EventSettled, api.EventProbe, api.EventScale: // berth events tells of probes
	}
}

func showStep(ui progress, e api.Event) {
	begin, done := opWords(e.Step.Op)
	p := progressEvent{ID: stepID(e.Step), Text: begin, Detail: e.Status}
	switch e.Phase {
	case "done":
		p.Text, p.State, p.Detail = done, progressDone, ""
	case "failed":
		p.Text, p.State, p.Detail = "Error", progressError, e.Err
	}
	ui.Event(p)
}

func showHold(ui progress, h *reconcile.Hold) {
	switch h.Kind {
	case reconcile.HoldWaiting:
		for _, object := range []string{"network ", "volume ", "image ", "node "} {
			if strings.HasPrefix(h.Reason, "waits for "+object) {
				return // that object's own line says it, and it takes a moment only
			}
		}
		ui.Event(progressEvent{ID: keyID(h.Key, h.Name), Text: "Waiting", Detail: h.Reason})
	case reconcile.HoldFailing:
		e := progressEvent{ID: keyID(h.Key, h.Name), Text: "Error", Detail: h.Reason, State: progressError}
		if why, back := strings.CutPrefix(h.Reason, "rolled back: "); back {
			e.Text, e.Detail = "Rolled back", why
		}
		ui.Event(e)
	case reconcile.HoldIdle:
		if h.Rollout {
			ui.Event(progressEvent{ID: serviceID(h.Service), Text: "Resting", Detail: h.Reason, State: progressWarning})
		}
	}
}

// showRollout shows how far the replacement of a service's replicas has come. Of
// a service that is new it shows only what goes wrong: its containers' own lines
// tell the rest.
func showRollout(ui progress, r *api.RolloutChange) {
	e := progressEvent{ID: serviceID(r.Service), Text: rolloutWord(r) + fmt.Sprintf(" %d/%d", r.Done, r.Total)}
	if r.Failed > 0 {
		e.Text += fmt.Sprintf(", %d failed", r.Failed)
	}
	switch r.State {
	case reconcile.RolloutPaused:
		e.Detail, e.State = r.Why, progressError
	case reconcile.RolloutRolledBack:
		e.Text, e.Detail, e.State = "Rolling back", r.Why, progressWarning
	case reconcile.RolloutUpdating, reconcile.RolloutCompleted:
		switch {
		case r.New:
			return
		case r.Failed > 0 && r.State == reconcile.RolloutCompleted:
			e.State = progressWarning
		case r.Done >= r.Total:
			e.State = progressDone
		}
	}
	ui.Event(e)
}

// rolloutWord says what goes on, or was done, with a service's replicas.
func rolloutWord(r *api.RolloutChange) string {
	over := r.State == reconcile.RolloutCompleted || r.Done >= r.Total
	switch {
	case r.State == reconcile.RolloutPaused:
		return "Paused"
	case r.Back && over:
		return "Rolled back"
	case r.Back:
		return "Rolling back"
	case over:
		return "Updated"
	}
	return "Updating"
}

func stepID(s *reconcile.Step) string { return keyID(s.Key, s.Name) }

// keyID names what a step or hold is about as Compose does: "Container
// shop-web-1", "Network shop_default".
func keyID(key reconcile.Key, name string) string {
	kind, rest, _ := strings.Cut(string(key), "/")
	if name == "" {
		name = rest
	}
	switch kind {
	case "network":
		return "Network " + name
	case "volume":
		return "Volume " + name
	case "image":
		return "Image " + name
	case "rollout", "port":
		return serviceID(name)
	}
	if name == rest {
		return "Container " + string(key)
	}
	return "Container " + name
}

// opWords says how an operation is called while it goes on, and once it is done.
func opWords(op reconcile.Op) (begin, done string) {
	switch op {
	case reconcile.OpCreate, reconcile.OpNetCreate, reconcile.OpVolCreate:
		return "Creating", "Created"
	case reconcile.OpRemove, reconcile.OpNetRemove, reconcile.OpVolRemove:
		return "Removing", "Removed"
	case reconcile.OpStart:
		return "Starting", "Started"
	case reconcile.OpStop:
		return "Stopping", "Stopped"
	case reconcile.OpKill:
		return "Killing", "Killed"
	case reconcile.OpRestart:
		return "Restarting", "Started"
	case reconcile.OpPause:
		return "Pausing", "Paused"
	case reconcile.OpUnpause:
		return "Unpausing", "Unpaused"
	case reconcile.OpUpdate:
		return "Updating", "Updated"
	case reconcile.OpRename:
		return "Renaming", "Renamed"
	case reconcile.OpPull:
		return "Pulling", "Pulled"
	case reconcile.OpBuild:
		return "Building", "Built"
	case reconcile.OpHook:
		return "Running hooks", "Hooks done"
	case reconcile.OpExec:
		return "Running a command", "Command done"
	case reconcile.OpNotify:
		return "Calling the webhook", "Webhook called"
	}
	return string(op), "Done"
}

// grace turns a -t flag, in seconds, into a duration; nil: the flag was not given.
func grace(seconds int, given bool) (*time.Duration, error) {
	if !given {
		return nil, nil
	}
	if seconds < 0 {
		return nil, fmt.Errorf("--timeout %d is negative; use 0 to kill at once", seconds)
	}
	d := time.Duration(seconds) * time.Second
	return &d, nil
}
