package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

type volumesOptions struct {
	quiet  bool
	format string
}

func newVolumes(a *app) *cobra.Command {
	var o volumesOptions
	cmd := &cobra.Command{
		Use:               "volumes [OPTIONS] [SERVICE...]",
		Short:             "List volumes",
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.volumes(cmd.Context(), args, &o) },
	}
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "Only display volume names")
	cmd.Flags().StringVar(&o.format, "format", "table", formatHelp)
	return cmd
}

// volumeRow is one volume as templates and JSON see it: Docker's fields, with
// N/A where a list does not tell.
type volumeRow struct {
	Availability string
	Driver       string
	Group        string
	Labels       string
	Links        string
	Mountpoint   string
	Name         string
	Scope        string
	Size         string
	Status       string

	labels map[string]string
}

// Label returns a label's value, for templates.
func (r volumeRow) Label(name string) string { return r.labels[name] }

// volumes lists the stack's volumes; with services only those their containers mount.
func (a *app) volumes(ctx context.Context, services []string, o *volumesOptions) error {
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	list, err := engine.ListVolumes(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: t.Name}})
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(v runtime.Volume) bool { return v.Labels[runtime.LabelFiles] != "" }) // not the user's
	if len(services) > 0 {
		mounted, err := a.mountedVolumes(ctx, t, services)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(v runtime.Volume) bool { return !mounted[v.Name] })
	}
	slices.SortFunc(list, func(x, y runtime.Volume) int { return strings.Compare(x.Name, y.Name) })
	if o.quiet {
		for i := range list {
			if _, err := fmt.Fprintln(a.env.Out, list[i].Name); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([]volumeRow, len(list))
	for i := range list {
		rows[i] = newVolumeRow(&list[i])
	}
	l := &listing[volumeRow]{
		Titles: map[string]string{"Name": "VOLUME NAME"},
		Columns: []column[volumeRow]{
			{"DRIVER", func(r volumeRow) string { return r.Driver }},
			{"VOLUME NAME", func(r volumeRow) string { return r.Name }},
		},
	}
	return l.print(a.env.Out, o.format, rows)
}

func (a *app) mountedVolumes(ctx context.Context, t target, services []string) (map[string]bool, error) {
	containers, err := a.containers(ctx, t, services, withOneOffs)
	if err != nil {
		return nil, err
	}
	mounted := make(map[string]bool)
	for i := range containers {
		for _, m := range containers[i].Mounts {
			if m.Type == runtime.MountVolume {
				mounted[m.Name] = true
			}
		}
	}
	return mounted, nil
}

func newVolumeRow(v *runtime.Volume) volumeRow {
	const unknown = "N/A"
	return volumeRow{
		Availability: unknown, Driver: v.Driver, Group: unknown, Labels: joinLabels(v.Labels), Links: unknown,
		Mountpoint: v.Mountpoint, Name: v.Name, Scope: "local", Size: unknown, Status: unknown, labels: v.Labels,
	}
}
