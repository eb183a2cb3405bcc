package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// target is the stack a command is about.
type target struct {
	Name   string
	Loaded *stack.Loaded // nil when only the name is known: -p without a file
}

// load reads the project the global flags name. services are those named on
// the command line: their profiles become active. Nothing is printed.
func (a *app) load(ctx context.Context, services ...string) (*stack.Loaded, error) {
	return stack.Load(ctx, a.loadOptions(services...))
}

// loadOptions are the global flags as the loader takes them.
func (a *app) loadOptions(services ...string) stack.LoadOptions {
	return stack.LoadOptions{
		WorkingDir:  a.env.WorkingDir,
		ProjectDir:  a.global.projectDir,
		Files:       a.global.files,
		Stdin:       a.env.In,
		ProjectName: a.global.project,
		Profiles:    a.global.profiles,
		EnvFiles:    a.global.envFiles,
		Environ:     a.env.Environ,
		Services:    services,

		AllResources: a.global.allResource,
	}
}

// resolve finds the stack the global flags name, as Compose does: -p alone is
// enough, the engine's labels tell the rest; without -p, or with -f, the
// Compose file is read for its names, though not the files it refers to, and where there is none COMPOSE_PROJECT_NAME is enough.
func (a *app) resolve(ctx context.Context, services ...string) (target, error) {
	if a.global.project != "" && len(a.global.files) == 0 {
		return target{Name: a.global.project}, checkProjectName(a.global.project)
	}
	opts := a.loadOptions(services...)
	opts.NamesOnly = true
	loaded, err := stack.Load(ctx, opts)
	if err != nil {
		if name, ok := a.env.lookup("COMPOSE_PROJECT_NAME"); ok && name != "" && errors.Is(err, stack.ErrNoFile) {
			return target{Name: name}, checkProjectName(name)
		}
		return target{}, err
	}
	return target{Name: loaded.Stack.Name, Loaded: loaded}, nil
}

// checkProjectName refuses a name that no stack can have, before it is asked for anywhere.
func checkProjectName(name string) error {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_') {
			return fmt.Errorf("project name %q: only a-z, 0-9, - and _ are allowed, and the first must be a letter or digit", name)
		}
	}
	return nil
}

// warn prints what of the file is not carried out, each warning once, to standard error.
func (a *app) warn(loaded *stack.Loaded) {
	if a.global.progress == "quiet" {
		return
	}
	for _, w := range loaded.Warnings {
		_, _ = fmt.Fprintln(a.env.Err, "warning:", w)
	}
}

// oneOffs says whether the containers made by run are meant too.
type oneOffs int

const (
	withoutOneOffs oneOffs = iota
	withOneOffs
	onlyOneOffs
)

// containers lists the containers of a stack, in every state, sorted by
// service and number: Berth's and those Docker Compose made. With services
// only theirs; a service that has none, and that the file does not declare
// either, is an error.
func (a *app) containers(ctx context.Context, t target, services []string, one oneOffs) ([]runtime.Container, error) {
	engine, err := a.openEngine(ctx)
	if err != nil {
		return nil, err
	}
	all, err := engine.List(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: t.Name}})
	if err != nil {
		return nil, err
	}
	if err := t.knows(services, all); err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(all, func(c runtime.Container) bool {
		single := isOneOff(&c)
		if single && one == withoutOneOffs || !single && one == onlyOneOffs {
			return true
		}
		return len(services) > 0 && !slices.Contains(services, serviceOf(&c))
	})
	slices.SortFunc(list, compareContainers)
	return list, nil
}

// knows fails when a named service is neither in the file nor has a container.
func (t target) knows(services []string, all []runtime.Container) error {
	for _, s := range services {
		if t.declares(s) || slices.ContainsFunc(all, func(c runtime.Container) bool { return serviceOf(&c) == s }) {
			continue
		}
		return fmt.Errorf("no such service: %s in stack %s", s, t.Name)
	}
	return nil
}

// declares reports whether the file, when it was read, has the service, in whatever profile.
func (t target) declares(service string) bool {
	if t.Loaded == nil {
		return false
	}
	return t.Loaded.Stack.Service(service) != nil || slices.Contains(t.Loaded.Stack.Inactive, service)
}

// container returns one container of a service: that of the number index, or
// with index 0 the first that runs (alive) or else the first.
func (a *app) container(ctx context.Context, t target, service string, index int) (runtime.Container, error) {
	list, err := a.containers(ctx, t, []string{service}, withoutOneOffs)
	if err != nil {
		return runtime.Container{}, err
	}
	if index > 0 {
		for i := range list {
			if numberOf(&list[i]) == index {
				return list[i], nil
			}
		}
		return runtime.Container{}, fmt.Errorf("service %q has no container %d in stack %s", service, index, t.Name)
	}
	for i := range list {
		if list[i].State.Alive() {
			return list[i], nil
		}
	}
	if len(list) == 0 {
		return runtime.Container{}, fmt.Errorf("service %q is not running in stack %s; berth up -d %s starts it", service, t.Name, service)
	}
	return list[0], nil
}

// stackOf is the stack a container belongs to, by its labels.
func stackOf(c *runtime.Container) string { return c.Labels[runtime.LabelComposeProject] }

// serviceOf is the service a container embodies, by its labels.
func serviceOf(c *runtime.Container) string { return c.Labels[runtime.LabelComposeService] }

// numberOf is the container's number within its service; 0 when the label is damaged.
func numberOf(c *runtime.Container) int {
	n, err := strconv.Atoi(c.Labels[runtime.LabelComposeNumber])
	if err != nil {
		return 0
	}
	return n
}

// isOneOff reports whether run made the container.
func isOneOff(c *runtime.Container) bool {
	return c.Labels[runtime.LabelComposeOneOff] == "True"
}

// shortName is the name that logs and up show: without the stack's.
func shortName(c *runtime.Container) string {
	return strings.TrimPrefix(c.Name, stackOf(c)+"-")
}

func compareContainers(a, b runtime.Container) int {
	if c := strings.Compare(serviceOf(&a), serviceOf(&b)); c != 0 {
		return c
	}
	if n, m := numberOf(&a), numberOf(&b); n != m {
		return n - m
	}
	return strings.Compare(a.Name, b.Name)
}

// serviceNames are the file's services that the command line does not name yet.
func (a *app) serviceNames(ctx context.Context, already []string) []string {
	loaded, err := a.load(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for i := range loaded.Stack.Services {
		if n := loaded.Stack.Services[i].Name; !slices.Contains(already, n) {
			names = append(names, n)
		}
	}
	return names
}
