package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

type portOptions struct {
	index    int
	protocol string
}

func newPort(a *app) *cobra.Command {
	var o portOptions
	cmd := &cobra.Command{
		Use:               "port [OPTIONS] SERVICE PRIVATE_PORT",
		Short:             "Print the public port for a port binding",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.port(cmd.Context(), args[0], args[1], &o) },
	}
	cmd.Flags().IntVar(&o.index, "index", 0, "Index of the container if service has multiple replicas")
	cmd.Flags().StringVar(&o.protocol, "protocol", "tcp", "tcp or udp")
	return cmd
}

// port prints where the host publishes a container's port.
func (a *app) port(ctx context.Context, service, private string, o *portOptions) error {
	number, err := strconv.ParseUint(private, 10, 16)
	if err != nil || number == 0 {
		return fmt.Errorf("port: %q is not a port; use a number from 1 to 65535", private)
	}
	t, err := a.resolve(ctx, service)
	if err != nil {
		return err
	}
	c, err := a.container(ctx, t, service, o.index)
	if err != nil {
		return err
	}
	protocol := strings.ToLower(o.protocol)
	var has []string
	var known *api.Status
	if isBalanced(&c) {
		known = a.knownStatus(ctx, t.Name)
		c.Ports = portsOf(&c, known)
	}
	for _, p := range c.Ports {
		if p.HostPort == 0 {
			continue
		}
		if uint64(p.Target) == number && p.Protocol == protocol {
			_, err := fmt.Fprintln(a.env.Out, hostPort(p))
			return err
		}
		has = append(has, fmt.Sprintf("%d/%s", p.Target, p.Protocol))
	}
	return fmt.Errorf("no port %d/%s for container %s: %s", number, protocol, c.Name, publishedText(&c, has, known))
}

// publishedText says which ports a container publishes instead, or why none.
// known is what the daemon tells where it publishes the service's ports.
func publishedText(c *runtime.Container, has []string, known *api.Status) string {
	unbound := ""
	if known != nil {
		unbound = unboundText(known.Published, serviceOf(c))
	}
	switch {
	case len(has) > 0:
		return "it publishes " + strings.Join(has, ", ")
	case !c.State.Alive():
		return fmt.Sprintf("it is %s, and only a running container publishes ports", c.State)
	case unbound != "":
		return unbound
	case isBalanced(c) && known == nil:
		return "the daemon publishes its ports, and it does not run or does not answer; any berth up -d starts it"
	}
	return "it publishes none; add it under ports: in the Compose file"
}

// unboundText says which ports of a service the balancer cannot listen at, and why.
func unboundText(list []api.Published, service string) string {
	var texts []string
	for i := range list {
		if p := &list[i]; p.Service == service && len(p.Bound) == 0 {
			texts = append(texts, publishedLine(p))
		}
	}
	return strings.Join(texts, "; ")
}

// runningContainer is container for what needs its process: one that does not
// run is an error.
func (a *app) runningContainer(ctx context.Context, t target, service string, index int) (runtime.Container, error) {
	c, err := a.container(ctx, t, service, index)
	if err != nil {
		return c, err
	}
	switch c.State {
	case runtime.Running:
		return c, nil
	case runtime.Paused:
		return c, fmt.Errorf("service %q: container %s is paused; berth unpause %s lets it go on", service, c.Name, service)
	case runtime.Restarting:
		return c, fmt.Errorf("service %q: container %s is restarting; berth logs %s says why it ended", service, c.Name, service)
	default:
		return c, fmt.Errorf("service %q is not running: container %s is %s; berth up -d %s starts it", service, c.Name, c.State, service)
	}
}
