package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
		Short:             "Receive real time events from containers",
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
