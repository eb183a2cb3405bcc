package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

type psOptions struct {
	all      bool
	quiet    bool
	services bool
	orphans  bool
	noTrunc  bool
	format   string
	filter   string
	status   []string
}

func newPs(a *app) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:               "ps [OPTIONS] [SERVICE...]",
		Short:             "List containers",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			return a.ps(cmd.Context(), args, &o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all stopped containers (including those created by the run command)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display IDs")
	f.BoolVar(&o.services, "services", false, "Display services")
	f.BoolVar(&o.orphans, "orphans", true, "Include orphaned services (not declared by project)")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.StringVar(&o.filter, "filter", "", "Filter services by a property (supported filters: status)")
	f.StringArrayVar(&o.status, "status", nil, "Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]")
	return cmd
}

func (o *psOptions) complete() error {
	if o.filter != "" {
		key, value, ok := strings.Cut(o.filter, "=")
		switch {
		case !ok:
			return errors.New("ps: arguments to --filter should be in form KEY=VAL")
		case key != "status":
			return fmt.Errorf("ps: unknown filter %s; the only one is status=STATE", key)
		}
		o.status = append(o.status, value)
		o.filter = ""
	}
	for _, s := range o.status {
		if st := runtime.State(s); !st.Valid() || st == runtime.Removed {
			return fmt.Errorf("ps: unknown status %q; use paused, restarting, removing, running, dead, created or exited", s)
		}
	}
	return nil
}

// ps lists the stack's containers from one list call of the engine.
func (a *app) ps(ctx context.Context, services []string, o *psOptions) error {
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	if !o.orphans && t.Loaded == nil {
		return errors.New("ps: --orphans=false needs the Compose file, which says what belongs to the stack; name it with -f")
	}
	all := o.all || len(o.status) > 0
	one := withoutOneOffs
	if all {
		one = withOneOffs
	}
	list, err := a.containers(ctx, t, services, one)
	if err != nil {
		return err
	}
	var known *api.Status
	if !o.quiet && !o.services {
		known = a.knownStatus(ctx, t.Name)
	}
	list = slices.DeleteFunc(list, func(c runtime.Container) bool {
		return !all && !c.State.Alive() && restOf(known, serviceOf(&c)) == nil || len(o.status) > 0 && !slices.Contains(o.status, string(c.State)) ||
			!o.orphans && !t.declares(serviceOf(&c))
	})
	if o.wantsSize() {
		if err := a.addSizes(ctx, t, list); err != nil {
			return err
		}
	}
	return a.printPs(list, known, o, time.Now())
}

// knownTime is how long ps waits for what the daemon may add.
const knownTime = 500 * time.Millisecond

// knownStatus is what a daemon that runs already knows of the stack; nil: there
// is none, it does not know it, or it does not answer.
func (a *app) knownStatus(ctx context.Context, stack string) *api.Status {
	ctx, cancel := context.WithTimeout(ctx, knownTime)
	defer cancel()
	d, err := a.find(ctx)
	if d == nil || err != nil {
		return nil
	}
	s, err := d.Known(ctx, stack)
	if err != nil {
		return nil // it is only an addition
	}
	return s
}

// restOf is how a service rests, as far as it is known; nil: it does not.
func restOf(known *api.Status, service string) *reconcile.Rest {
	if known == nil || known.Desired == nil {
		return nil
	}
	return known.Desired.Services[service].Rest
}

// keepsWarm reports whether a service has paused replicas beside those that are
// wanted, as far as it is known.
func keepsWarm(known *api.Status, service string) bool {
	if known.Desired == nil || known.Desired.Stack == nil {
		return false
	}
	svc := known.Desired.Stack.Service(service)
	return svc != nil && svc.Warm > 0
}

// wantsSize reports whether the user's template asks for sizes, which cost the
// engine a walk through each container's files.
func (o *psOptions) wantsSize() bool {
	return !o.quiet && !o.services && strings.Contains(o.format, ".Size")
}

func (a *app) addSizes(ctx context.Context, t target, list []runtime.Container) error {
	sized, err := a.engine.List(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: t.Name}, Size: true})
	if err != nil {
		return err
	}
	for i := range list {
		for j := range sized {
			if sized[j].ID == list[i].ID {
				list[i].SizeRW, list[i].SizeRootFs = sized[j].SizeRW, sized[j].SizeRootFs
			}
		}
	}
	return nil
}

func (a *app) printPs(list []runtime.Container, known *api.Status, o *psOptions, now time.Time) error {
	switch {
	case o.quiet:
		for i := range list {
			if _, err := fmt.Fprintln(a.env.Out, list[i].ID); err != nil {
				return err
			}
		}
		return nil
	case o.services:
		return a.printServices(list)
	}
	rows := make([]psRow, len(list))
	for i := range list {
		list[i].Ports = portsOf(&list[i], known)
		rows[i] = newPsRow(&list[i], !o.noTrunc, now)
		rows[i].tell(known, list[i].ID, !o.noTrunc)
	}
	return psListing(rows).print(a.env.Out, o.format, rows)
}

// reasonLength is how much of a reason fits the table, in characters.
const reasonLength = 60

// tell adds what the daemon knows of a container.
func (r *psRow) tell(known *api.Status, id string, trunc bool) {
	if known == nil {
		return
	}
	wanted := false
	for _, rep := range slices.Concat(known.Replicas, known.Beside) {
		if rep.Container.ID != id {
			continue
		}
		wanted = true
		r.Restarts, r.Reason = rep.Restarts, rep.Reason
		if rep.Probed {
			r.Ready = map[bool]string{true: "yes", false: "no"}[rep.Serves]
		}
	}
	switch rest := restOf(known, r.Service); {
	case rest != nil:
		r.Reason = restText(rest) + ": " + rest.Why
	case !wanted && r.State == string(runtime.Paused) && keepsWarm(known, r.Service):
		r.Reason = "kept warm until more replicas are wanted"
	}
	if trunc {
		r.Reason = ellipsis(r.Reason, reasonLength)
	}
}

// portsOf are the ports of a container that are published: where the balancer
// holds those of its service, at which it listens, and else those of its own.
func portsOf(c *runtime.Container, known *api.Status) []runtime.BoundPort {
	if known == nil || !isBalanced(c) || !c.State.Alive() {
		return c.Ports
	}
	var bound []runtime.BoundPort
	for i := range known.Published {
		if p := &known.Published[i]; p.Service == serviceOf(c) {
			bound = append(bound, p.Bound...)
		}
	}
	for _, own := range c.Ports {
		same := func(p runtime.BoundPort) bool { return p.Target == own.Target && p.Protocol == own.Protocol }
		if !slices.ContainsFunc(bound, same) {
			bound = append(bound, own)
		}
	}
	return bound
}

// isBalanced reports whether the balancer publishes the ports of a container.
func isBalanced(c *runtime.Container) bool {
	return c.Labels[runtime.LabelPublish] == runtime.PublishBalanced
}

func (a *app) printServices(list []runtime.Container) error {
	var names []string
	for i := range list {
		if s := serviceOf(&list[i]); !slices.Contains(names, s) {
			names = append(names, s)
			if _, err := fmt.Fprintln(a.env.Out, sanitize(s)); err != nil {
				return err
			}
		}
	}
	return nil
}

// publisher is one published or exposed port as ps --format json has it.
type publisher struct {
	URL           string
	TargetPort    int
	PublishedPort int
	Protocol      string
}

// psRow is one container as templates and JSON see it.
type psRow struct {
	Command      string
	Created      int64 // seconds since 1970
	CreatedAt    string
	ExitCode     int
	Health       string
	ID           string
	Image        string
	Labels       string
	LocalVolumes string
	Mounts       string
	Name         string
	Names        string
	Networks     string
	Node         string
	Ports        string
	Project      string
	Publishers   []publisher
	Ready        string // "yes" or "no": it serves; empty: it has no probes of Berth's
	Reason       string // why it is as it is, where the daemon has something to say
	Restarts     int    // by the engine and by Berth
	RunningFor   string
	Service      string
	Size         string
	State        string
	Status       string

	labels map[string]string
}

// Label returns a label's value, for templates.
func (r psRow) Label(name string) string { return r.labels[name] }

func newPsRow(c *runtime.Container, trunc bool, now time.Time) psRow {
	id, command := c.ID, strings.Join(c.Command, " ")
	if trunc {
		id, command = shortID(id), ellipsis(command, 20)
	}
	r := psRow{
		Command: strconv.Quote(command), Created: c.Created.Unix(), CreatedAt: c.Created.In(now.Location()).Format("2006-01-02 15:04:05 -0700 MST"),
		ExitCode: c.ExitCode, Health: string(c.Health), ID: id, Image: c.Image, Name: c.Name, Names: c.Name,
		Node: nodeOf(c), Ports: portsText(c.Ports), Project: stackOf(c), Publishers: make([]publisher, 0, len(c.Ports)), RunningFor: ago(c.Created, now),
		Service: serviceOf(c), Size: sizeText(c), State: string(c.State), Status: statusText(c, now), Labels: joinLabels(c.Labels), labels: c.Labels,
	}
	var mounts, networks []string
	local := 0
	for _, m := range c.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if trunc {
			name = ellipsis(name, 15)
		}
		mounts = append(mounts, name)
		if m.Type == runtime.MountVolume {
			local++
		}
	}
	for _, n := range c.Networks {
		networks = append(networks, n.Network)
	}
	r.Mounts, r.Networks, r.LocalVolumes = strings.Join(mounts, ","), strings.Join(networks, ","), strconv.Itoa(local)
	for _, p := range c.Ports {
		r.Publishers = append(r.Publishers, publisher{p.HostIP, int(p.Target), int(p.HostPort), p.Protocol})
	}
	return r
}

func sizeText(c *runtime.Container) string {
	s := units.HumanSizeWithPrecision(float64(c.SizeRW), 3)
	if c.SizeRootFs > 0 {
		s += " (virtual " + units.HumanSizeWithPrecision(float64(c.SizeRootFs), 3) + ")"
	}
	return s
}

// nodeOf is the virtual node a container stands on.
func nodeOf(c *runtime.Container) string {
	return cmp.Or(c.Labels[runtime.LabelNode], reconcile.LocalNode)
}

// psListing prints containers in Compose's columns, and in those of Berth's own
// that have something to tell: nodes where some were declared, readiness where
// there are probes, restarts and reasons where there are any.
func psListing(rows []psRow) *listing[psRow] {
	l := &listing[psRow]{
		Titles: map[string]string{
			"ID": "CONTAINER ID", "CreatedAt": "CREATED AT", "RunningFor": "CREATED", "LocalVolumes": "LOCAL VOLUMES",
			"ExitCode": "EXIT CODE",
		},
		Columns: []column[psRow]{
			{"NAME", func(r psRow) string { return r.Name }},
			{"IMAGE", func(r psRow) string { return r.Image }},
			{"COMMAND", func(r psRow) string { return r.Command }},
			{"SERVICE", func(r psRow) string { return r.Service }},
			{"CREATED", func(r psRow) string { return r.RunningFor }},
			{"STATUS", func(r psRow) string { return r.Status }},
			{"PORTS", func(r psRow) string { return r.Ports }},
		},
	}
	has := func(f func(psRow) bool) bool { return slices.ContainsFunc(rows, f) }
	after := slices.IndexFunc(l.Columns, func(c column[psRow]) bool { return c.Title == "PORTS" })
	add := func(at int, title string, value func(psRow) string) {
		l.Columns = slices.Insert(l.Columns, at, column[psRow]{title, value})
	}
	if has(func(r psRow) bool { return r.Reason != "" }) {
		add(len(l.Columns), "REASON", func(r psRow) string { return r.Reason })
	}
	if has(func(r psRow) bool { return r.Restarts > 0 }) {
		add(after, "RESTARTS", func(r psRow) string { return strconv.Itoa(r.Restarts) })
	}
	if has(func(r psRow) bool { return r.Ready != "" }) {
		add(after, "READY", func(r psRow) string { return cmp.Or(r.Ready, "-") })
	}
	if has(func(r psRow) bool { return r.Node != reconcile.LocalNode }) {
		add(after-2, "NODE", func(r psRow) string { return r.Node })
	}
	return l
}

// statusText is the engine's text of a container's state, or where it gives
// none the same in our words.
func statusText(c *runtime.Container, now time.Time) string {
	if c.Status != "" {
		return c.Status
	}
	switch c.State {
	case runtime.Created:
		return "Created"
	case runtime.Running, runtime.Paused:
		s := "Up"
		if !c.Started.IsZero() {
			s += " " + units.HumanDuration(c.Uptime(now))
		}
		switch {
		case c.State == runtime.Paused:
			s += " (Paused)"
		case c.Health == runtime.HealthStarting:
			s += " (health: starting)"
		case c.Health != runtime.HealthNone:
			s += " (" + string(c.Health) + ")"
		}
		return s
	case runtime.Restarting, runtime.Exited:
		s := fmt.Sprintf("%s (%d)", map[bool]string{true: "Restarting", false: "Exited"}[c.State == runtime.Restarting], c.ExitCode)
		if !c.Finished.IsZero() {
			s += " " + ago(c.Finished, now)
		}
		return s
	case runtime.Removing:
		return "Removal In Progress"
	case runtime.Dead:
		return "Dead"
	default:
		return string(c.State)
	}
}

// portsText is the PORTS column: neighbouring ports stand as one range, those
// that are published under another number one by one.
func portsText(ports []runtime.BoundPort) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b runtime.BoundPort) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), strings.Compare(a.HostIP, b.HostIP), cmp.Compare(a.HostPort, b.HostPort),
			strings.Compare(a.Protocol, b.Protocol))
	})
	type span struct {
		ip, proto   string
		first, last uint16
	}
	var spans []*span
	var moved []string
	for _, p := range ports {
		if p.HostIP != "" && p.HostPort != p.Target {
			moved = append(moved, fmt.Sprintf("%s->%d/%s", hostPort(p), p.Target, p.Protocol))
			continue
		}
		i := slices.IndexFunc(spans, func(s *span) bool {
			return s.ip == p.HostIP && s.proto == p.Protocol && (p.Target == s.last+1 || p.Target == s.last)
		})
		if i < 0 {
			spans = append(spans, &span{p.HostIP, p.Protocol, p.Target, p.Target})
			continue
		}
		spans[i].last = p.Target
	}
	out := make([]string, 0, len(spans)+len(moved))
	for _, s := range spans {
		text := strconv.Itoa(int(s.first))
		if s.last != s.first {
			text += "-" + strconv.Itoa(int(s.last))
		}
		if s.ip != "" {
			text = net.JoinHostPort(s.ip, text) + "->" + text
		}
		out = append(out, text+"/"+s.proto)
	}
	return strings.Join(append(out, moved...), ", ")
}

// hostPort is where the host publishes a port: "0.0.0.0:8080".
func hostPort(p runtime.BoundPort) string {
	return net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.HostPort)))
}
