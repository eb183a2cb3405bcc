package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// ErrNoFile is returned by [Load] when no Compose file was named and none was
// found in the working directory or above it.
var ErrNoFile = errors.New("no compose.yaml found here or in a parent directory; name a file with -f")

// LoadOptions says which files are read and how, as Compose's global flags do.
type LoadOptions struct {
	WorkingDir  string    // where relative paths and compose.yaml are looked for; empty: the current directory
	ProjectDir  string    // --project-directory; empty: the first file's
	Files       []string  // -f; empty: COMPOSE_FILE, or compose.yaml and its override, searched upwards; "-" is Stdin
	Stdin       io.Reader // read for "-"; nil: the process's standard input
	ProjectName string    // -p; empty: COMPOSE_PROJECT_NAME, name:, or the directory's name
	Profiles    []string  // --profile; empty: COMPOSE_PROFILES; "*" activates all
	EnvFiles    []string  // --env-file; empty: COMPOSE_ENV_FILES, or .env
	Environ     []string  // KEY=value; the process's environment, handed in
	// Services whose profile is activated because they were named on the command line.
	Services []string
	// Nodes are the virtual nodes in place of x-berth.nodes, such as those of
	// simulate --nodes; empty: those of the files.
	Nodes []Node
	// AllResources keeps networks, volumes, secrets and configs that no active
	// service uses (--all-resources).
	AllResources bool
	// NamesOnly leaves unread what configs, secrets, env_file and label_file hold:
	// for commands that act on what there is and must not fail because a file or
	// variable of the last up is gone. The Stack then is not one to declare.
	NamesOnly bool
	// NoInterpolate, NoNormalize, NoConsistency, NoResolvePath and NoResolveEnv
	// serve config only. With NoInterpolate the result has a model to print and no Stack.
	NoInterpolate bool
	NoNormalize   bool
	NoConsistency bool
	NoResolvePath bool
	NoResolveEnv  bool // env_file stays as it is; its files are not read
}

// Loaded is the result of reading a project.
type Loaded struct {
	Stack    *Stack
	Contents map[string][]byte // of configs and secrets written into containers, by runtime.File.Name
	Warnings []Warning         // sorted by position, each once
	Project  *types.Project    // for config, which prints it again

	model   map[string]any // the merged files, for config --no-interpolate
	loading *loading       // what was read, for config's lists
}

// Load reads, merges, interpolates and checks the Compose files. It opens
// regular files only, and none above [maxComposeFile]; an error names the file
// and line where that is known. No value of a variable stands in an error or a
// warning: it may be a secret.
func Load(ctx context.Context, opts LoadOptions) (*Loaded, error) {
	l, err := newLoading(opts)
	if err != nil {
		return nil, err
	}
	out, err := l.load(ctx)
	if err != nil {
		return nil, l.redacted(err)
	}
	out.Warnings = l.sortedWarnings()
	return out, nil
}

func (l *loading) load(ctx context.Context) (*Loaded, error) {
	if err := l.readSources(ctx); err != nil {
		return nil, err
	}
	name, err := l.projectName()
	if err != nil {
		return nil, err
	}
	model, options, err := l.loadModel(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &Loaded{loading: l}
	if l.opts.NoInterpolate {
		out.model = withoutContents(model)
		return out, nil
	}
	completeSteps(model)
	found := findUnsupported(model)
	if out.Project, err = l.bind(model, options); err != nil {
		return nil, err
	}
	if err := l.reportUnsupported(found, out.Project); err != nil {
		return nil, err
	}
	t := newTranslator(l, out.Project)
	if out.Stack, err = t.stack(); err != nil {
		return nil, err
	}
	if !l.opts.AllResources {
		out.Project = inUse(out.Project)
	}
	out.Contents = t.contents
	return out, nil
}

// loading is one call of Load.
type loading struct {
	opts     LoadOptions
	cwd      string // absolute
	dir      string // the project directory, absolute
	env      types.Mapping
	files    []string // absolute, or "-"
	envFiles []string // absolute
	sources  []*source
	byPath   map[string]*source
	warnings map[Warning]bool
	unset    map[string]bool   // variables without a value and without a default
	used     map[string]string // variables that interpolation has put in, with their values
}

func newLoading(opts LoadOptions) (*loading, error) {
	l := &loading{opts: opts, env: types.Mapping{}, byPath: map[string]*source{}, warnings: map[Warning]bool{}, unset: map[string]bool{}, used: map[string]string{}}
	for _, kv := range opts.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			l.env[k] = v
		}
	}
	l.cwd = opts.WorkingDir
	if !filepath.IsAbs(l.cwd) {
		wd, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("find the current directory: %w", err)
		}
		l.cwd = filepath.Join(wd, l.cwd)
	}
	l.env["PWD"] = l.cwd
	if err := l.readEnvironment(); err != nil {
		return nil, err
	}
	return l, nil
}

// abs makes a path absolute against the working directory.
func (l *loading) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(l.cwd, path)
}

// show is a path as messages name it: relative where it is below the working directory.
func (l *loading) show(path string) string {
	if path == stdinName {
		return "stdin"
	}
	if rel, err := filepath.Rel(l.cwd, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// projectName finds the name as Compose does: flag, environment, name:, directory.
func (l *loading) projectName() (string, error) {
	if n := l.opts.ProjectName; n != "" {
		return n, checkProjectName(n, "-p")
	}
	if n := l.env["COMPOSE_PROJECT_NAME"]; n != "" {
		return n, checkProjectName(n, "COMPOSE_PROJECT_NAME")
	}
	if name, pos, ok := l.namedInFile(); ok {
		value, err := l.substitute(name, l.lookup)
		if err != nil {
			return "", l.at(pos, "name", err)
		}
		if n := normalizeName(value); n != "" {
			return n, nil
		}
		return "", l.at(pos, "name", fmt.Errorf("%q is not a project name: use lower-case letters, digits, - and _, beginning with a letter or digit", clip(value)))
	}
	if n := normalizeName(filepath.Base(l.dir)); n != "" {
		return n, nil
	}
	return "", fmt.Errorf("the directory %q gives no project name: set name: or -p", l.dir)
}

// namedInFile returns the last name: of the files named by the user.
func (l *loading) namedInFile() (string, Position, bool) {
	for _, s := range slices.Backward(l.sources) {
		if s.included {
			continue
		}
		if n := s.find("name"); n != nil && n.Value != "" {
			return n.Value, Position{File: s.name, Line: n.Line}, true
		}
	}
	return "", Position{}, false
}

func checkProjectName(name, from string) error {
	if normalizeName(name) == name {
		return nil
	}
	return fmt.Errorf("%s %q is not a project name: use lower-case letters, digits, - and _, beginning with a letter or digit", from, clip(name))
}

// normalizeName drops what a project name cannot hold.
func normalizeName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return -1
	}, strings.ToLower(s))
	return strings.TrimLeft(s, "-_")
}

// loadModel merges the files into one canonical tree.
func (l *loading) loadModel(ctx context.Context, name string) (map[string]any, *loader.Options, error) {
	details := types.ConfigDetails{WorkingDir: l.dir, Environment: l.env}
	for _, f := range l.files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: f, Content: l.byPath[f].content})
	}
	set := func(o *loader.Options) {
		o.SetProjectName(name, true)
		o.SkipValidation = true // done on the sources, which know their lines
		o.SkipInterpolation = l.opts.NoInterpolate
		o.SkipNormalization = l.opts.NoNormalize
		o.ResolvePaths = !l.opts.NoResolvePath
		o.SkipConsistencyCheck = true // done by bind, once named services are active
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.Profiles = l.profiles()
		if o.Interpolate != nil {
			o.Interpolate.Substitute = l.substitute
		}
	}
	model, err := guard(func() (map[string]any, error) {
		return loader.LoadModelWithContext(ctx, details, set)
	})
	if err != nil {
		return nil, nil, l.locate(err)
	}
	options := loader.ToOptions(&details, []func(*loader.Options){set})
	return model, options, nil
}

// withoutContents drops the secrets' and configs' contents that the library
// has put into the tree, so that printing it shows what the files say.
func withoutContents(model map[string]any) map[string]any {
	for _, section := range []string{"secrets", "configs"} {
		objects, _ := model[section].(map[string]any)
		for _, o := range objects {
			m, ok := o.(map[string]any)
			if !ok {
				continue
			}
			delete(m, types.SecretConfigXValue)
			if m["environment"] != nil {
				delete(m, "content")
			}
		}
	}
	return model
}

// guard turns a panic of the library into an error: it asserts types that a
// file, merged from several, may not have.
func guard[T any](f func() (T, error)) (out T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the files do not fit together: a key has a value of the wrong type (%v)", r)
		}
	}()
	return f()
}

// profiles are those asked for by flag, else by COMPOSE_PROFILES.
func (l *loading) profiles() []string {
	if len(l.opts.Profiles) > 0 {
		return l.opts.Profiles
	}
	var out []string
	for _, p := range strings.Split(l.env["COMPOSE_PROFILES"], ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// bind turns the tree into typed values, with the services named on the
// command line active and env_file and label_file read.
func (l *loading) bind(model map[string]any, options *loader.Options) (*types.Project, error) {
	details := types.ConfigDetails{WorkingDir: l.dir, Environment: l.env}
	project, err := guard(func() (*types.Project, error) { return loader.ModelToProject(model, options, details) })
	if err != nil {
		return nil, l.locate(err)
	}
	project.ComposeFiles = slices.Clone(l.files)
	all := project.AllServices()
	for _, name := range l.opts.Services {
		if _, ok := all[name]; !ok {
			return nil, fmt.Errorf("no such service: %s (the file has %s)", clip(name), listNames(slices.Sorted(maps.Keys(all))))
		}
	}
	if len(l.opts.Services) > 0 {
		if project, err = project.WithServicesEnabled(l.opts.Services...); err != nil {
			return nil, l.locate(err)
		}
	}
	if !l.opts.NoConsistency {
		if err := l.check(project); err != nil {
			return nil, err
		}
	}
	return l.resolveFiles(project)
}

// resolveFiles reads env_file and label_file into environment and labels, unless
// only names are asked for.
func (l *loading) resolveFiles(project *types.Project) (*types.Project, error) {
	if !l.opts.NoResolveEnv {
		l.resolveHooks(project)
	}
	if l.opts.NamesOnly {
		return project, nil
	}
	envs, labels := false, false
	for _, name := range project.ServiceNames() {
		s := project.Services[name]
		if err := l.checkFiles(&s.ContainerSpec, &envs, &labels, "services", name); err != nil {
			return nil, err
		}
		for i := range s.PreStart {
			if err := l.checkFiles(&s.PreStart[i].ContainerSpec, &envs, &labels, "services", name, "pre_start", strconv.Itoa(i)); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if envs && !l.opts.NoResolveEnv {
		if project, err = project.WithServicesEnvironmentResolved(false); err != nil {
			return nil, l.locate(hideContent(err))
		}
	}
	if labels {
		if project, err = project.WithServicesLabelsResolved(false); err != nil {
			return nil, l.locate(hideContent(err))
		}
	}
	return project, nil
}

// checkFiles checks the env_file and label_file of a container before the
// library opens them, and notes whether there is anything to read.
func (l *loading) checkFiles(c *types.ContainerSpec, envs, labels *bool, at ...string) error {
	for i, f := range c.EnvFiles {
		if err := checkDotenv(f.Path, bool(f.Required), f.Format); err != nil {
			return l.fail(err, slices.Concat(at, []string{"env_file", strconv.Itoa(i)})...)
		}
		*envs = true
	}
	for i, f := range c.LabelFiles {
		if err := checkDotenv(f, true, ""); err != nil {
			return l.fail(err, slices.Concat(at, []string{"label_file", strconv.Itoa(i)})...)
		}
		*labels = true
	}
	for _, v := range c.Environment {
		*envs = *envs || v == nil
	}
	return nil
}

// listNames is a list for a message, cut where it grows too long to read.
func listNames(names []string) string {
	const most = 12
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
