package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// downOptions are the flags of down.
type downOptions struct {
	volumes       bool
	removeOrphans bool
	images        string // "", "local" or "all"
	timeout       *time.Duration
}

func newDown(a *app) *cobra.Command {
	var o downOptions
	var timeout int
	cmd := &cobra.Command{
		Use:               "down [OPTIONS] [SERVICES]",
		Short:             "Stop and remove containers, networks",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "local", "all"}, o.images) {
				return fmt.Errorf("--rmi %q is unknown; use local or all", o.images)
			}
			if !cmd.Flags().Changed("remove-orphans") {
				o.removeOrphans = a.env.enabled("COMPOSE_REMOVE_ORPHANS")
			}
			var err error
			if o.timeout, err = grace(timeout, cmd.Flags().Changed("timeout")); err != nil {
				return err
			}
			return a.down(cmd.Context(), args, &o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.volumes, "volumes", "v", false, `Remove named volumes declared in the "volumes" section of the Compose file and anonymous volumes attached to containers`)
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	f.StringVar(&o.images, "rmi", "", `Remove images used by services. "local" remove only images that don't have a custom tag ("local"|"all")`)
	f.IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	return cmd
}

func (a *app) down(ctx context.Context, services []string, o *downOptions) error {
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	for _, s := range services {
		if t.Loaded != nil && !t.declares(s) {
			return fmt.Errorf("no such service: %s in stack %s", s, t.Name)
		}
	}
	// What the containers run is known only while they exist.
	images, err := a.imagesOf(ctx, t, services, o.images)
	if err != nil {
		return err
	}
	if a.global.dryRun {
		return a.dryDown(ctx, t, services, o, images)
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	req := api.DownRequest{Down: reconcile.Down{
		Volumes: o.volumes, RemoveOrphans: o.removeOrphans, Grace: o.timeout, Services: services,
	}}
	if t.Loaded != nil {
		req.Stack = t.Loaded.Stack
	}
	acc, err := d.Down(ctx, t.Name, req)
	switch {
	case runtime.IsNotFound(err):
		a.note(fmt.Sprintf("no resource found to remove for stack %q", t.Name))
	case err != nil:
		return err
	default:
		if err := a.follow(ctx, d, acc, untilSettled); err != nil {
			return err
		}
	}
	return a.removeImages(ctx, images)
}

// imagesOf lists the images that down --rmi removes: with "all" every image of
// the services, with "local" those that have no name of their own in the file.
func (a *app) imagesOf(ctx context.Context, t target, services []string, which string) ([]string, error) {
	if which == "" {
		return nil, nil
	}
	var refs []string
	add := func(service, ref string) {
		local := ref == t.Name+"-"+service || ref == t.Name+"-"+service+":latest"
		if ref != "" && (which == "all" || local) && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	list, err := a.containers(ctx, t, nil, withOneOffs)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if len(services) == 0 || slices.Contains(services, serviceOf(&list[i])) {
			add(serviceOf(&list[i]), list[i].Image)
		}
	}
	if t.Loaded != nil {
		for i := range t.Loaded.Stack.Services {
			s := &t.Loaded.Stack.Services[i]
			if len(services) == 0 || slices.Contains(services, s.Name) {
				add(s.Name, s.Spec.Image)
			}
		}
	}
	slices.Sort(refs)
	return refs, nil
}

// removeImages removes images; one in use elsewhere or gone already is only reported.
func (a *app) removeImages(ctx context.Context, refs []string) error {
	if len(refs) == 0 {
		return nil
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	ui := a.progress("Running")
	defer ui.Stop()
	var errs []error
	for _, ref := range refs {
		e := progressEvent{ID: "Image " + ref, Text: "Removing"}
		ui.Event(e)
		err := engine.RemoveImage(ctx, ref, false)
		switch {
		case err == nil:
			e.Text, e.State = "Removed", progressDone
		case runtime.IsNotFound(err):
			e.Text, e.State = "Not found", progressWarning
		case runtime.IsConflict(err):
			e.Text, e.Detail, e.State = "Kept", "still in use", progressWarning
		default:
			e.Text, e.State = "Error", progressError
			errs = append(errs, err)
		}
		ui.Event(e)
	}
	return errors.Join(errs...)
}

// dryDown prints what down would remove, as a plan's lines.
func (a *app) dryDown(ctx context.Context, t target, services []string, o *downOptions, images []string) error {
	list, err := a.containers(ctx, t, services, withoutOneOffs)
	if err != nil {
		return err
	}
	var lines []string
	line := func(op, kind, name string) {
		lines = append(lines, fmt.Sprintf("%-14s %-12s %s  (down)", op, kind, name))
	}
	for i := range list {
		c := &list[i]
		if t.Loaded != nil && !t.declares(serviceOf(c)) && !o.removeOrphans {
			continue
		}
		key := fmt.Sprintf("%s/%d", serviceOf(c), numberOf(c))
		if c.State.Alive() {
			line("stop", key, c.Name)
		}
		line("remove", key, c.Name)
	}
	if len(services) == 0 {
		filter := runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: t.Name}}
		nets, err := a.engine.ListNetworks(ctx, filter)
		if err != nil {
			return err
		}
		for i := range nets {
			line("remove", "network", nets[i].Name)
		}
		if o.volumes {
			vols, err := a.engine.ListVolumes(ctx, filter)
			if err != nil {
				return err
			}
			for i := range vols {
				line("remove", "volume", vols[i].Name)
			}
		}
	}
	for _, ref := range images {
		line("remove", "image", ref)
	}
	if len(lines) == 0 {
		lines = append(lines, fmt.Sprintf("stack %s: nothing to do", t.Name))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(a.env.Out, l); err != nil {
			return err
		}
	}
	return nil
}
