package stack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// Select returns the project limited to some services and what they depend
// on, for printing. Without names it returns l itself.
func (l *Loaded) Select(services []string) (*Loaded, error) {
	if len(services) == 0 {
		return l, nil
	}
	if l.Project == nil {
		return nil, errors.New("services cannot be chosen without interpolation")
	}
	p, err := l.Project.WithSelectedServices(services)
	if err != nil {
		return nil, err
	}
	out := *l
	out.Project = p
	if !l.loading.opts.AllResources {
		out.Project = inUse(p)
	}
	return &out, nil
}

// YAML prints the resolved project as config does: a file that loads to the
// same project again, so each "$" is doubled. Contents of secrets are left out.
func (l *Loaded) YAML() ([]byte, error) {
	if l.Project == nil {
		return encodeYAML(l.model)
	}
	p, err := l.printable()
	if err != nil {
		return nil, err
	}
	data, err := p.MarshalYAML()
	if err != nil {
		return nil, fmt.Errorf("print the project: %w", err)
	}
	return escapeDollars(data), nil
}

// JSON prints the same as YAML does, as JSON.
func (l *Loaded) JSON() ([]byte, error) {
	if l.Project == nil {
		data, err := json.MarshalIndent(l.model, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("print the project: %w", err)
		}
		return append(data, '\n'), nil
	}
	p, err := l.printable()
	if err != nil {
		return nil, err
	}
	data, err := projectJSON(p)
	if err != nil {
		return nil, fmt.Errorf("print the project: %w", err)
	}
	return append(escapeDollars(data), '\n'), nil
}

// projectJSON adds to the library's JSON what that leaves out: x-berth of the services.
func projectJSON(p *types.Project) ([]byte, error) {
	data, err := p.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return nil, err
	}
	type service struct {
		types.ServiceConfig
		Extension any `json:"x-berth,omitempty"`
	}
	services := map[string]service{}
	for name, s := range p.Services {
		services[name] = service{s, s.Extensions[extensionKey]}
	}
	if parts["services"], err = json.Marshal(services); err != nil {
		return nil, err
	}
	return json.MarshalIndent(parts, "", "  ")
}

// printable is the project without env_file, whose variables stand under
// environment where its files have been read, and without dependencies on
// inactive services, which are not printed.
func (l *Loaded) printable() (*types.Project, error) {
	p := l.Project.WithoutUnresolvedOptionalDependencies()
	if l.loading.opts.NoResolveEnv {
		return p, nil
	}
	return p.WithServicesTransform(func(_ string, s types.ServiceConfig) (types.ServiceConfig, error) {
		s.EnvFiles = nil
		for i := range s.PreStart {
			s.PreStart[i].EnvFiles = nil
		}
		return s, nil
	})
}

func encodeYAML(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("print the project: %w", err)
	}
	return b.Bytes(), nil
}

func escapeDollars(data []byte) []byte {
	return bytes.ReplaceAll(data, []byte("$"), []byte("$$"))
}

// ServiceNames lists the active services, each behind those it depends on.
func (l *Loaded) ServiceNames() []string {
	var out []string
	seen := map[string]bool{}
	all := l.services()
	var add func(name string)
	add = func(name string) {
		s, ok := all[name]
		if !ok || seen[name] {
			return
		}
		seen[name] = true
		for _, d := range slices.Sorted(maps.Keys(s)) {
			add(d)
		}
		out = append(out, name)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		add(name)
	}
	return out
}

// services are the active services and what each depends on.
func (l *Loaded) services() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	if l.Project == nil {
		services, _ := l.model["services"].(map[string]any)
		for name := range services {
			out[name] = nil
		}
		return out
	}
	for name, s := range l.Project.Services {
		out[name] = map[string]bool{}
		for d := range s.DependsOn {
			out[name][d] = true
		}
	}
	return out
}

// Images lists the images of the active services and of their pre_start steps,
// each once.
func (l *Loaded) Images() []string {
	set := map[string]bool{}
	if l.Project != nil {
		for _, s := range l.Project.Services {
			set[imageName(l.Project, s)] = true
			for _, h := range s.PreStart {
				set[stepConfig(l.Project, s, h).Image] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// VolumeNames lists the keys of the volumes.
func (l *Loaded) VolumeNames() []string { return l.keys("volumes") }

// NetworkNames lists the keys of the networks.
func (l *Loaded) NetworkNames() []string { return l.keys("networks") }

func (l *Loaded) keys(section string) []string {
	if l.Project == nil {
		m, _ := l.model[section].(map[string]any)
		return slices.Sorted(maps.Keys(m))
	}
	var out []string
	switch section {
	case "volumes":
		out = l.Project.VolumeNames()
	case "networks":
		out = l.Project.NetworkNames()
	}
	slices.Sort(out)
	return out
}

// ProfileNames lists the profiles that any service belongs to, active or not.
func (l *Loaded) ProfileNames() []string {
	set := map[string]bool{}
	if l.Project != nil {
		for _, s := range l.Project.AllServices() {
			for _, p := range s.Profiles {
				set[p] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Hash is the revision of one service.
type Hash struct {
	Service  string
	Revision string
}

// Hashes lists the revisions of services, or of all of them.
func (l *Loaded) Hashes(services []string) ([]Hash, error) {
	if l.Stack == nil {
		return nil, errors.New("there are no revisions without interpolation")
	}
	if len(services) == 0 {
		services = l.ServiceNames()
	}
	out := make([]Hash, 0, len(services))
	for _, name := range services {
		s := l.Stack.Service(name)
		if s == nil {
			return nil, fmt.Errorf("no such service: %s", clip(name))
		}
		out = append(out, Hash{Service: name, Revision: s.Revision})
	}
	return out, nil
}

// Environment lists the variables that interpolation sees, as KEY=value. They
// may hold secrets: print them only where they were asked for.
func (l *Loaded) Environment() []string {
	env := l.loading.env
	out := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

// Variables lists the variables the files use, by name.
func (l *Loaded) Variables() []Variable { return l.loading.variableList() }
