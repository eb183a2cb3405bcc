package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// lastEvents bounds how long past events are waited for once --until is reached:
// the engine sends those it remembers at once.
const lastEvents = time.Second

// eventsOptions are the flags of events.
type eventsOptions struct {
	json  bool
	since string
	until string
}

func newEvents(a *app) *cobra.Command {
	var o eventsOptions
	cmd := &cobra.Command{
		Use:               "events [OPTIONS] [SERVICE...]",
		Short:             "Receive real time events from containers, and what the daemon decides about them",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.events(cmd.Context(), args, o)
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "Output events as a stream of json objects")
	cmd.Flags().StringVar(&o.since, "since", "", "Show all events created since timestamp")
	cmd.Flags().StringVar(&o.until, "until", "", "Stream events until this timestamp")
	return cmd
}

// events prints what happens to the containers of a stack, until --until or
// until the user interrupts.
func (a *app) events(ctx context.Context, services []string, o eventsOptions) error {
	now := time.Now()
	since, err := parseMoment("since", o.since, now)
	if err != nil {
		return err
	}
	until, err := parseMoment("until", o.until, now)
	if err != nil {
		return err
	}
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	decisions := a.decisions(work, t.Name)
	stream := engine.Events(work, since, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: t.Name}})
	var end <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(max(until.Sub(now), 0) + lastEvents)
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return &ExitError{Code: 130}
		case <-end:
			return nil
		case e := <-decisions:
			if err := a.printDaemonEvent(&e, services, o.json); err != nil {
				return err
			}
		case e, ok := <-stream:
			if !ok || !until.IsZero() && e.Time.After(until) {
				return nil
			}
			if err := a.printEvent(&e, services, o.json); err != nil {
				return err
			}
		}
	}
}

// decisions are what the daemon does and finds, from now on; none when no daemon
// runs. The channel is never closed.
func (a *app) decisions(ctx context.Context, stack string) <-chan api.Event {
	ch := make(chan api.Event)
	go func() {
		d, err := a.find(ctx)
		if d == nil || err != nil {
			return // nobody decides anything
		}
		_ = d.Follow(ctx, stack, client.FollowOptions{}, func(e api.Event) error {
			select {
			case ch <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return ch
}

// printDaemonEvent prints what the daemon did, found or waits for.
func (a *app) printDaemonEvent(e *api.Event, services []string, asJSON bool) error {
	action, id, service, attributes := daemonEventOf(e)
	if action == "" || len(services) > 0 && !slices.Contains(services, service) {
		return nil
	}
	text, err := daemonEventText(e.Time, action, id, service, attributes, asJSON)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.env.Out, text)
	return err
}

// daemonEventOf sums an event up; an empty action is not shown.
func daemonEventOf(e *api.Event) (action, id, service string, attributes map[string]string) {
	attributes = map[string]string{}
	switch {
	case e.Type == api.EventProbe && e.Probe != nil:
		attributes["name"] = e.Probe.Container
		if e.Probe.Why != "" {
			attributes["why"] = e.Probe.Why
		}
		action = "unready"
		if e.Probe.Ready {
			action = "ready"
		}
		return action, string(e.Probe.Key), e.Probe.Service, attributes
	case e.Type == api.EventStep && e.Step != nil && (e.Phase == "done" || e.Phase == "failed"):
		attributes["name"], attributes["cause"] = e.Step.Name, e.Step.Cause
		if e.Step.Node != "" {
			attributes["node"] = e.Step.Node
		}
		if e.Err != "" {
			attributes["error"] = e.Err
		}
		return string(e.Step.Op) + " " + e.Phase, string(e.Step.Key), e.Step.Service, attributes
	case e.Type == api.EventHold && e.Hold != nil:
		attributes["name"], attributes["reason"] = e.Hold.Name, e.Hold.Reason
		return "hold", string(e.Hold.Key), e.Hold.Service, attributes
	case e.Type == api.EventRollout && e.Rollout != nil:
		return rolloutEventOf(e.Rollout)
	case e.Type == api.EventScale && e.Scaling != nil:
		return scaleEventOf(e.Scaling)
	default:
		return "", "", "", nil
	}
}

// rolloutEventOf sums up how a rollout has come further.
func rolloutEventOf(r *api.RolloutChange) (action, id, service string, attributes map[string]string) {
	attributes = map[string]string{
		"name": r.Service, "done": strconv.Itoa(r.Done), "failed": strconv.Itoa(r.Failed), "total": strconv.Itoa(r.Total),
	}
	if r.Why != "" {
		attributes["why"] = r.Why
	}
	if r.Step > 0 {
		attributes["canary-steps"] = strconv.Itoa(r.Step)
	}
	state := string(r.State)
	if r.Back && r.State == reconcile.RolloutUpdating {
		state = string(reconcile.RolloutRolledBack)
	}
	return "rollout " + state, "rollout/" + r.Service, r.Service, attributes
}

// daemonEventText is a decision in the form of the engine's events, with the type
// "berth".
func daemonEventText(at time.Time, action, id, service string, attributes map[string]string, asJSON bool) (string, error) {
	if asJSON {
		line, err := json.Marshal(map[string]any{
			"action": action, "attributes": attributes, "id": id, "service": service, "time": at, "type": "berth",
		})
		return string(line), err
	}
	pairs := make([]string, 0, len(attributes))
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, k+"="+attributes[k])
	}
	return sanitize(fmt.Sprintf("%s berth %s %s (%s)", at.Format("2006-01-02 15:04:05.000000"), action, id, strings.Join(pairs, ", "))), nil
}

// printEvent prints an event of a container of one of the services; none means all.
func (a *app) printEvent(e *runtime.Event, services []string, asJSON bool) error {
	service := e.Labels[runtime.LabelComposeService]
	if e.Type != "container" || e.Labels[runtime.LabelComposeOneOff] == "True" || len(services) > 0 && !slices.Contains(services, service) {
		return nil
	}
	text, err := eventText(e, service, asJSON)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.env.Out, text)
	return err
}

func eventText(e *runtime.Event, service string, asJSON bool) (string, error) {
	attributes := attributesOf(e)
	if asJSON {
		line, err := json.Marshal(struct {
			Action     string            `json:"action"`
			Attributes map[string]string `json:"attributes"`
			ID         string            `json:"id"`
			Service    string            `json:"service"`
			Time       time.Time         `json:"time"`
			Type       string            `json:"type"`
		}{e.Action, attributes, e.ID, service, e.Time, e.Type})
		return string(line), err
	}
	pairs := make([]string, 0, len(attributes))
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, k+"="+attributes[k])
	}
	return sanitize(fmt.Sprintf("%s container %s %s (%s)", e.Time.Format("2006-01-02 15:04:05.000000"), e.Action, e.ID, strings.Join(pairs, ", "))), nil
}
