package cli

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mattn/go-shellwords"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// oneOffSpec is the service's spec with what run's flags change: its own
// command, no published ports and no aliases unless asked for, and no restart.
func (a *app) oneOffSpec(s *stack.Stack, svc *stack.Service, command []string, o *runOptions) (*runtime.Spec, error) {
	spec := svc.Spec
	spec.Restart = runtime.RestartPolicy{}
	spec.TTY = !o.noTTY && !o.detach
	spec.StdinOpen, spec.StdinOnce = o.interactive, o.interactive
	if err := o.applyCommand(&spec, command); err != nil {
		return nil, err
	}
	if o.user != "" {
		spec.User = o.user
	}
	if o.workdir != "" {
		spec.WorkingDir = o.workdir
	}
	if err := o.applyNetwork(&spec); err != nil {
		return nil, err
	}
	if err := a.applyEnv(&spec, o); err != nil {
		return nil, err
	}
	var err error
	if spec.Labels, err = addLabels(spec.Labels, o.labels); err != nil {
		return nil, err
	}
	spec.CapAdd, spec.CapDrop = moveCaps(spec.CapAdd, spec.CapDrop, o.capAdd, o.capDrop)
	spec.Mounts = slices.Clone(spec.Mounts)
	for _, v := range o.volumes {
		m, err := s.ParseVolume(v, a.env.WorkingDir)
		if err != nil {
			return nil, fmt.Errorf("run: %w", err)
		}
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(old runtime.Mount) bool { return old.Target == m.Target })
		spec.Mounts = append(spec.Mounts, m)
	}
	return &spec, nil
}

func (o *runOptions) applyCommand(spec *runtime.Spec, command []string) error {
	if o.entrypointOn {
		words, err := shellwords.Parse(o.entrypoint)
		if err != nil {
			return fmt.Errorf("run: --entrypoint %q: %w", o.entrypoint, err)
		}
		if words == nil {
			words = []string{}
		}
		spec.Entrypoint, spec.Command = words, []string{}
	}
	if len(command) > 0 {
		spec.Command = command
	}
	return nil
}

func (o *runOptions) applyNetwork(spec *runtime.Spec) error {
	switch {
	case len(o.publish) > 0:
		list, err := stack.ParsePorts(o.publish)
		if err != nil {
			return fmt.Errorf("run: --publish: %w", err)
		}
		spec.Ports = list
	case !o.servicePorts:
		spec.Ports = nil
	}
	if o.useAliases {
		return nil
	}
	spec.Networks = slices.Clone(spec.Networks)
	for i := range spec.Networks {
		spec.Networks[i].Aliases = nil
	}
	return nil
}

// applyEnv sets variables: from files first, then by -e. A name without a
// value is taken from the user's environment, and unset where that lacks it.
func (a *app) applyEnv(spec *runtime.Spec, o *runOptions) error {
	vars := make(map[string]string)
	for _, kv := range spec.Env {
		k, _, _ := strings.Cut(kv, "=")
		vars[k] = kv
	}
	own := make(map[string]string, len(a.env.Environ))
	for _, kv := range a.env.Environ {
		k, v, _ := strings.Cut(kv, "=")
		own[k] = v
	}
	for _, f := range o.envFiles {
		if !filepath.IsAbs(f) {
			f = filepath.Join(a.env.WorkingDir, f)
		}
		read, err := stack.ReadEnvFile(f, own)
		if err != nil {
			return fmt.Errorf("run: %w", err)
		}
		for k, v := range read {
			vars[k] = k + "=" + v
		}
	}
	for _, kv := range o.env {
		k, _, given := strings.Cut(kv, "=")
		if k == "" {
			return fmt.Errorf("run: --env %q: not of the form NAME=value", kv)
		}
		if v, ok := own[k]; !given && ok {
			kv += "=" + v
		}
		vars[k] = kv
	}
	spec.Env = nil
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		spec.Env = append(spec.Env, vars[k])
	}
	return nil
}

func addLabels(labels map[string]string, pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return labels, nil
	}
	labels = maps.Clone(labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("run: label %q: must be set as KEY=VALUE", p)
		}
		if strings.HasPrefix(k, "io.berth.") || strings.HasPrefix(k, "com.docker.compose.") {
			return nil, fmt.Errorf("run: label %q: io.berth. and com.docker.compose. labels are Berth's own; choose another name", k)
		}
		labels[k] = v
	}
	return labels, nil
}

// moveCaps adds capabilities to one list and takes them off the other.
func moveCaps(add, drop, moreAdd, moreDrop []string) (added, dropped []string) {
	without := func(list, gone []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(gone, c) })
	}
	added = append(without(add, append(slices.Clone(moreDrop), moreAdd...)), moreAdd...)
	dropped = append(without(drop, append(slices.Clone(moreAdd), moreDrop...)), moreDrop...)
	return added, dropped
}
