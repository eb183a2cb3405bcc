package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/runtime"
)

// ParsePorts reads published ports in the Compose file's short form, as
// run --publish takes them: "8080:80", "127.0.0.1:53:53/udp", "8000-8010:80".
func ParsePorts(specs []string) ([]runtime.Port, error) {
	var list []types.ServicePortConfig
	for _, s := range specs {
		p, err := types.ParsePortConfig(s)
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", s, err)
		}
		list = append(list, p...)
	}
	return ports(list)
}

// ParseVolume reads a mount in the Compose file's short form, as run --volume
// takes it. A relative host path is taken from dir, ~ from the home directory;
// a name means the stack's volume of that key, or else the engine's of that name.
func (s *Stack) ParseVolume(spec, dir string) (runtime.Mount, error) {
	v, err := format.ParseVolume(spec)
	if err != nil {
		return runtime.Mount{}, fmt.Errorf("volume %q: %w", spec, err)
	}
	m := (&translator{project: &types.Project{}}).mount(v, "")
	switch m.Type {
	case runtime.MountBind:
		if m.Source, err = hostPath(v.Source, dir); err != nil {
			return runtime.Mount{}, fmt.Errorf("volume %q: %w", spec, err)
		}
	case runtime.MountVolume:
		m.Source = v.Source
		for i := range s.Volumes {
			if s.Volumes[i].Key == v.Source {
				m.Source = s.Volumes[i].Spec.Name
			}
		}
	default:
	}
	return m, nil
}

func hostPath(path, dir string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/') {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		path = home + rest
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	if dir == "" {
		return filepath.Abs(path)
	}
	return filepath.Join(dir, path), nil
}

// ReadEnvFile reads KEY=value lines, as run --env-from-file takes them; env
// gives the variables they may refer to. Errors never show the content.
func ReadEnvFile(path string, env map[string]string) (map[string]string, error) {
	vars := make(map[string]string)
	if err := readDotenv(path, vars, env); err != nil {
		return nil, fmt.Errorf("env file %s: %w", path, err)
	}
	return vars, nil
}
