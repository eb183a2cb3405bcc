package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/reconcile"
)

// exitChanges is plan's exit code when something would change.
const exitChanges = 2

func newPlan(a *app) *cobra.Command {
	var o createOptions
	var format string
	cmd := &cobra.Command{
		Use:   "plan [OPTIONS] [SERVICE...]",
		Short: "Show what up would change, and why",
		Long: "Show what up would change, and why. Nothing is changed.\n\n" +
			"The exit code is 0 when nothing would change, 2 when something would, and 1 after an error.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, a.env); err != nil {
				return err
			}
			return a.plan(cmd.Context(), args, &o, format)
		},
		ValidArgsFunction: a.completeServices,
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "text", "Format of the plan (text|json)")
	f.BoolVar(&o.forceRecreate, "force-recreate", false, "Plan to recreate containers even if nothing has changed")
	f.BoolVar(&o.recreateDeps, "always-recreate-deps", false, "Plan to recreate dependent containers")
	f.BoolVar(&o.noRecreate, "no-recreate", false, "Plan to keep containers that exist")
	f.BoolVar(&o.noDeps, "no-deps", false, "Leave linked services out")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "Plan to remove containers for services not defined in the Compose file")
	f.StringArrayVar(&o.scale, "scale", nil, "Plan SERVICE with NUM instances")
	f.BoolVar(&o.adopt, "adopt", false, "Plan to take over what Docker Compose or another installation made")
	return cmd
}

func (a *app) plan(ctx context.Context, services []string, o *createOptions, format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("plan: --format %q is unknown; use text or json", format)
	}
	loaded, err := a.load(ctx, services...)
	if err != nil {
		return err
	}
	a.warn(loaded)
	req, err := o.request(loaded, services)
	if err != nil {
		return err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	plan, err := d.Plan(ctx, req)
	if err != nil {
		return err
	}
	included, err := withDependencies(loaded.Stack, services, o.noDeps)
	if err != nil {
		return err
	}
	if err := a.printPlan(plan, elevations(loaded.Stack, included), format); err != nil {
		return err
	}
	if !plan.Empty() {
		return &ExitError{Code: exitChanges}
	}
	return nil
}

// printedPlan is a plan as JSON, with what the services ask for beyond an
// ordinary container.
type printedPlan struct {
	*reconcile.Plan
	Elevated []elevation `json:"elevated,omitempty"`
}

// printPlan prints a plan as text or JSON; the text's warnings go to standard error.
func (a *app) printPlan(plan *reconcile.Plan, elevated []elevation, format string) error {
	if format == "json" {
		enc := json.NewEncoder(a.env.Out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(printedPlan{plan, elevated})
	}
	for _, w := range plan.Warnings {
		a.note(w)
	}
	text := plan.String()
	for _, e := range elevated {
		text += fmt.Sprintf("%-14s %-12s %s\n", "elevated", e.Service, sanitize(e.Asks))
	}
	if plan.Empty() && len(plan.Holds) == 0 {
		text += fmt.Sprintf("stack %s: nothing to do\n", plan.Stack)
	}
	_, err := io.WriteString(a.env.Out, text)
	return err
}
