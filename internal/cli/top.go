package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

func newTop(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "top [SERVICES...]",
		Short:             "Display the running processes",
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.top(cmd.Context(), args) },
	}
}

// processes is what runs in one container.
type processes struct {
	service string
	number  int
	table   runtime.Processes
}

// top prints the processes of the running containers as one table.
func (a *app) top(ctx context.Context, services []string) error {
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, t, services, withOneOffs)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(c runtime.Container) bool { return c.State != runtime.Running && c.State != runtime.Paused })
	if len(list) == 0 {
		a.note(fmt.Sprintf("top: no running containers in stack %s; berth up -d starts them", t.Name))
		return nil
	}
	found := make([]processes, len(list))
	indexes := make([]int, len(list))
	for i := range indexes {
		indexes[i] = i
	}
	err = inParallel(ctx, 8, indexes, func(ctx context.Context, i int) error {
		table, err := a.engine.Top(ctx, list[i].ID, nil)
		if runtime.IsNotFound(err) || runtime.IsConflict(err) {
			return nil // it has ended meanwhile
		}
		found[i] = processes{serviceOf(&list[i]), numberOf(&list[i]), table}
		return err
	})
	if err != nil {
		return err
	}
	return printTop(a.env.Out, found)
}

// printTop prints one line a process. Containers may have different columns;
// CMD, which may be long, stands last.
func printTop(w io.Writer, list []processes) error {
	var titles []string
	for _, p := range list {
		for _, title := range p.table.Titles {
			if !slices.Contains(titles, title) {
				titles = append(titles, title)
			}
		}
	}
	if i := slices.Index(titles, "CMD"); i >= 0 {
		titles = append(slices.Delete(titles, i, i+1), "CMD")
	}
	t := tabwriter.NewWriter(w, 4, 1, 2, ' ', 0)
	writeCells(t, append([]string{"SERVICE", "#"}, titles...))
	for _, p := range list {
		for _, row := range p.table.Rows {
			cells := []string{p.service, strconv.Itoa(p.number)}
			for _, title := range titles {
				cell := "-"
				if i := slices.Index(p.table.Titles, title); i >= 0 && i < len(row) {
					cell = strings.TrimSpace(row[i])
				}
				cells = append(cells, cell)
			}
			writeCells(t, cells)
		}
	}
	return t.Flush()
}
