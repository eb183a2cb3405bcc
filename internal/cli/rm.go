package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

// rmOptions are the flags of rm.
type rmOptions struct {
	force   bool
	stop    bool
	volumes bool
}

func newRm(a *app) *cobra.Command {
	var o rmOptions
	var all bool
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] [SERVICE...]",
		Short: "Removes stopped service containers",
		Long: "Removes stopped service containers.\n\n" +
			"Anonymous volumes stay unless -v is given. Data that is not in a volume is lost.",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rm(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.force, "force", "f", false, "Don't ask to confirm removal")
	f.BoolVarP(&o.stop, "stop", "s", false, "Stop the containers, if required, before removing")
	f.BoolVarP(&o.volumes, "volumes", "v", false, "Remove any anonymous volumes attached to containers")
	f.BoolVarP(&all, "all", "a", false, "Deprecated - no effect")
	_ = f.MarkHidden("all") // the flag exists
	return cmd
}

func (a *app) rm(ctx context.Context, services []string, o rmOptions) error {
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, t, services, withoutOneOffs)
	if err != nil {
		return err
	}
	req := api.ActionRequest{Op: actRemove, Services: services, Stop: o.stop, Volumes: o.volumes}
	list = slices.DeleteFunc(list, func(c runtime.Container) bool { return !touches(&req, &c) })
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.env.Err, "No stopped containers")
		return err
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = sanitize(list[i].Name)
	}
	question := "Going to remove " + strings.Join(names, ", ")
	if !o.force && !a.global.dryRun {
		yes, err := a.confirm(question)
		if err != nil || !yes {
			return err
		}
	} else if _, err := fmt.Fprintln(a.env.Out, question); err != nil {
		return err
	}
	return a.actOn(ctx, t, req, untilSettled)
}

// confirm asks a question on standard output; anything but yes means no.
func (a *app) confirm(question string) (bool, error) {
	if _, err := fmt.Fprintf(a.env.Out, "? %s [y/N] ", question); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(a.env.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	if !strings.HasSuffix(line, "\n") {
		_, _ = fmt.Fprintln(a.env.Out)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
