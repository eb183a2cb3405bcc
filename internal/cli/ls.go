package cli

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

type lsOptions struct {
	all    bool
	quiet  bool
	format string
	filter []string
}

func newLs(a *app) *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:               "ls [OPTIONS]",
		Short:             "List running Compose projects",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.ls(cmd.Context(), &o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all stopped Compose projects")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display project names")
	f.StringVar(&o.format, "format", "table", "Format the output. Values: [table | json]")
	f.StringArrayVar(&o.filter, "filter", nil, "Filter output based on conditions provided (name=PATTERN)")
	return cmd
}

// stackRow is one stack as ls shows it.
type stackRow struct {
	Name        string
	Status      string
	ConfigFiles string
}

// ls lists the stacks that have containers, Berth's and those of Docker Compose.
func (a *app) ls(ctx context.Context, o *lsOptions) error {
	if err := checkFormat(o.format); err != nil {
		return err
	}
	match, err := nameFilter(o.filter)
	if err != nil {
		return err
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	list, err := engine.List(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: ""}})
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(c runtime.Container) bool {
		return !match(stackOf(&c)) || c.Labels[runtime.LabelRelay] != "" // which is no replica
	})
	asleep := a.sleepers(ctx, list)
	list = slices.DeleteFunc(list, func(c runtime.Container) bool { return !o.all && !c.State.Alive() && !asleep(&c) })
	rows := stackRows(list, asleep)
	if o.quiet {
		for _, r := range rows {
			if _, err := fmt.Fprintln(a.env.Out, sanitize(r.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	l := &listing[stackRow]{Array: true, Columns: []column[stackRow]{
		{"NAME", func(r stackRow) string { return r.Name }},
		{"STATUS", func(r stackRow) string { return r.Status }},
		{"CONFIG FILES", func(r stackRow) string { return r.ConfigFiles }},
	}}
	return l.print(a.env.Out, o.format, rows)
}

// checkFormat refuses the formats of commands that have no templates.
func checkFormat(format string) error {
	if format != "" && format != "table" && format != "pretty" && format != "json" {
		return fmt.Errorf("--format %q is unknown; use table or json", format)
	}
	return nil
}

// nameFilter reads filters such as name=shop: any that matches, as a whole or as a pattern, is enough.
func nameFilter(filters []string) (func(name string) bool, error) {
	var patterns []*regexp.Regexp
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok || key != "name" {
			return nil, fmt.Errorf("ls: --filter %q is unknown; the only one is name=PATTERN", f)
		}
		p, err := regexp.Compile(value)
		if err != nil {
			return nil, fmt.Errorf("ls: --filter %q is not a pattern: %w", f, err)
		}
		patterns = append(patterns, p)
	}
	return func(name string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(name) })
	}, nil
}

// sleepers tells the containers of services that rest, as far as a daemon that
// runs knows it.
func (a *app) sleepers(ctx context.Context, list []runtime.Container) func(*runtime.Container) bool {
	known := map[string]*api.Status{}
	for i := range list {
		c := &list[i]
		_, asked := known[stackOf(c)]
		if c.State == runtime.Running || asked || c.Labels[runtime.LabelStack] == "" {
			continue
		}
		known[stackOf(c)] = a.knownStatus(ctx, stackOf(c))
	}
	return func(c *runtime.Container) bool {
		return c.State != runtime.Running && !isOneOff(c) && restOf(known[stackOf(c)], serviceOf(c)) != nil
	}
}

// stackRows sums containers up by stack; those that are asleep count as that,
// whatever their state.
func stackRows(list []runtime.Container, asleep func(*runtime.Container) bool) []stackRow {
	states := make(map[string]map[string]int)
	files := make(map[string][]string)
	for i := range list {
		c := &list[i]
		name := stackOf(c)
		if states[name] == nil {
			states[name] = make(map[string]int)
		}
		state := string(c.State)
		if asleep(c) {
			state = "asleep"
		}
		states[name][state]++
		for _, f := range strings.Split(c.Labels[runtime.LabelComposeFiles], ",") {
			if f != "" && !slices.Contains(files[name], f) {
				files[name] = append(files[name], f)
			}
		}
	}
	rows := make([]stackRow, 0, len(states))
	for _, name := range slices.Sorted(maps.Keys(states)) {
		var parts []string
		for _, s := range slices.Sorted(maps.Keys(states[name])) {
			parts = append(parts, fmt.Sprintf("%s(%d)", s, states[name][s]))
		}
		config := strings.Join(files[name], ",")
		if config == "" {
			config = "N/A"
		}
		rows = append(rows, stackRow{name, strings.Join(parts, ", "), config})
	}
	return rows
}
