package stack

import (
	"context"
	"errors"

	"github.com/compose-spec/compose-go/v2/types"
)

// LoadOptions says which files are read and how, as Compose's global flags do.
type LoadOptions struct {
	WorkingDir  string   // where relative paths and compose.yaml are looked for; empty: the current directory
	ProjectDir  string   // --project-directory; empty: the first file's
	Files       []string // -f; empty: compose.yaml and its override, searched upwards; "-" is standard input
	ProjectName string   // -p; empty: COMPOSE_PROJECT_NAME, name:, or the directory's name
	Profiles    []string // --profile, added to COMPOSE_PROFILES; "*" activates all
	EnvFiles    []string // --env-file; empty: .env
	Environ     []string // KEY=value; the process's environment, handed in
	// Services whose profile is activated because they were named on the command line.
	Services []string
	// NoInterpolate, NoNormalize, NoConsistency serve config only.
	NoInterpolate bool
	NoNormalize   bool
	NoConsistency bool
	NoResolvePath bool
}

// Loaded is the result of reading a project.
type Loaded struct {
	Stack    *Stack
	Contents map[string][]byte // of configs and secrets written into containers, by runtime.File.Name
	Warnings []Warning         // sorted by position, each once
	Project  *types.Project    // for config, which prints it again
}

// Load reads, merges, interpolates and checks the Compose files.
func Load(ctx context.Context, opts LoadOptions) (*Loaded, error) {
	return nil, errors.New("unfinished")
}
