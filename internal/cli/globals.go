package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// globals are the flags every command takes, as Compose has them.
type globals struct {
	files       []string
	project     string
	profiles    []string
	envFiles    []string
	projectDir  string
	progress    string // auto, tty, plain, json, quiet
	ansi        string // auto, never, always
	dryRun      bool
	parallel    int // of image pulls and builds; negative: no limit
	compat      bool
	allResource bool
}

func (g *globals) register(f *pflag.FlagSet) {
	f.StringArrayVarP(&g.files, "file", "f", nil, "Compose configuration files")
	f.StringVarP(&g.project, "project-name", "p", "", "Project name")
	f.StringArrayVar(&g.profiles, "profile", nil, "Specify a profile to enable")
	f.StringArrayVar(&g.envFiles, "env-file", nil, "Specify an alternate environment file")
	f.StringVar(&g.projectDir, "project-directory", "", "Specify an alternate working directory (default: the path of the first Compose file)")
	f.StringVar(&g.progress, "progress", "auto", "Set type of progress output (auto, tty, plain, json, quiet)")
	f.StringVar(&g.ansi, "ansi", "auto", "Control when to print ANSI control characters (never|always|auto)")
	f.IntVar(&g.parallel, "parallel", -1, "Control max parallelism of image pulls and builds, -1 for unlimited")
	f.BoolVar(&g.compat, "compatibility", false, "Run in backward compatibility mode (not supported)")
	f.BoolVar(&g.allResource, "all-resources", false, "Include all resources, even those not used by services")
}

// complete takes what no flag says from the environment, as Compose does, and
// refuses values that mean nothing.
func (g *globals) complete(cmd *cobra.Command, env *Env) error {
	f := cmd.Root().Flags()
	fromEnv := func(flag, name string) error {
		v, ok := env.lookup(name)
		if !ok || v == "" || f.Changed(flag) {
			return nil
		}
		if err := f.Set(flag, v); err != nil {
			return fmt.Errorf("environment variable %s=%q: %w", name, v, err)
		}
		return nil
	}
	err := errors.Join(
		fromEnv("progress", "COMPOSE_PROGRESS"),
		fromEnv("ansi", "COMPOSE_ANSI"),
		fromEnv("parallel", "COMPOSE_PARALLEL_LIMIT"),
		fromEnv("compatibility", "COMPOSE_COMPATIBILITY"),
	)
	if err != nil {
		return err
	}
	if len(g.envFiles) == 0 {
		if v, ok := env.lookup("COMPOSE_ENV_FILES"); ok && v != "" {
			g.envFiles = strings.Split(v, ",")
		}
	}
	return g.check()
}

func (g *globals) check() error {
	if !slices.Contains([]string{"auto", "tty", "plain", "json", "quiet"}, g.progress) {
		return fmt.Errorf("--progress %q is unknown; use auto, tty, plain, json or quiet", g.progress)
	}
	if !slices.Contains([]string{"auto", "never", "always"}, g.ansi) {
		return fmt.Errorf("--ansi %q is unknown; use auto, never or always", g.ansi)
	}
	if g.progress == "tty" && g.ansi == "never" {
		return errors.New("--progress tty draws with ANSI characters, which --ansi never forbids; use --progress plain")
	}
	if g.parallel == 0 {
		return errors.New("--parallel 0 would do nothing; use 1 or more, or -1 for no limit")
	}
	if g.compat {
		return errors.New("--compatibility is not supported: containers are named <project>-<service>-<number>; leave it out (and COMPOSE_COMPATIBILITY unset)")
	}
	return nil
}

// lookup returns a variable of the environment the program was given.
func (e *Env) lookup(name string) (string, bool) {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(e.Environ[i], "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// enabled reports whether a variable of the environment says yes.
func (e *Env) enabled(name string) bool {
	v, _ := e.lookup(name)
	b, err := strconv.ParseBool(v)
	return err == nil && b
}
