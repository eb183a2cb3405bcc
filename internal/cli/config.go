package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/internal/stack"
)

// configOptions are the flags of config.
type configOptions struct {
	format        string
	output        string
	quiet         bool
	pin           bool
	lock          bool
	noInterpolate bool
	noNormalize   bool
	noPaths       bool
	noCheck       bool
	noEnv         bool

	services    bool
	images      bool
	volumes     bool
	networks    bool
	profiles    bool
	variables   bool
	environment bool
	hash        string
}

func newConfig(a *app) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use:               "config [OPTIONS] [SERVICE...]",
		Aliases:           []string{"convert"},
		Short:             "Parse, resolve and render compose file in canonical format",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.config(cmd.Context(), args, &o)
		},
	}
	o.register(cmd.Flags())
	return cmd
}

func (o *configOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.format, "format", "", "Format the output. Values: [yaml | json]")
	f.BoolVar(&o.pin, "resolve-image-digests", false, "Pin image tags to digests")
	f.BoolVar(&o.lock, "lock-image-digests", false, "Produces an override file with image digests")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only validate the configuration, don't print anything")
	f.BoolVar(&o.noInterpolate, "no-interpolate", false, "Don't interpolate environment variables")
	f.BoolVar(&o.noNormalize, "no-normalize", false, "Don't normalize compose model")
	f.BoolVar(&o.noPaths, "no-path-resolution", false, "Don't resolve file paths")
	f.BoolVar(&o.noCheck, "no-consistency", false, "Don't check model consistency - warning: may produce invalid Compose output")
	f.BoolVar(&o.noEnv, "no-env-resolution", false, "Don't resolve service env files")
	f.BoolVar(&o.services, "services", false, "Print the service names, one per line.")
	f.BoolVar(&o.volumes, "volumes", false, "Print the volume names, one per line.")
	f.BoolVar(&o.networks, "networks", false, "Print the network names, one per line.")
	f.BoolVar(&o.profiles, "profiles", false, "Print the profile names, one per line.")
	f.BoolVar(&o.images, "images", false, "Print the image names, one per line.")
	f.StringVar(&o.hash, "hash", "", "Print the service config hash, one per line.")
	f.BoolVar(&o.variables, "variables", false, "Print model variables and default values.")
	f.BoolVar(&o.environment, "environment", false, "Print environment used for interpolation.")
	f.StringVarP(&o.output, "output", "o", "", "Save to file (default to stdout)")
}

func (o *configOptions) check() error {
	if !slices.Contains([]string{"", "yaml", "json"}, o.format) && (!o.variables || o.format != "table") {
		return fmt.Errorf("unsupported format %q; use yaml or json", o.format)
	}
	if o.noInterpolate {
		for flag, given := range map[string]bool{
			"resolve-image-digests": o.pin, "lock-image-digests": o.lock, "images": o.images, "profiles": o.profiles, "hash": o.hash != "",
		} {
			if given {
				return fmt.Errorf("--%s needs the values of variables; leave --no-interpolate out", flag)
			}
		}
	}
	return nil
}

// config prints the project as it has been understood, or a part of it.
func (a *app) config(ctx context.Context, services []string, o *configOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	opts := a.loadOptions(services...)
	opts.NoInterpolate = o.noInterpolate || o.variables
	opts.NoNormalize, opts.NoResolvePath, opts.NoConsistency, opts.NoResolveEnv = o.noNormalize, o.noPaths, o.noCheck, o.noEnv
	loaded, err := stack.Load(ctx, opts)
	if err != nil {
		return err
	}
	a.warn(loaded)
	if o.quiet {
		return nil
	}
	data, err := a.configText(ctx, loaded, services, o)
	if err != nil {
		return err
	}
	if o.output == "" {
		_, err := a.env.Out.Write(data)
		return err
	}
	file := o.output
	if !filepath.IsAbs(file) {
		file = filepath.Join(a.env.WorkingDir, file)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil { //nolint:gosec // a Compose file is for everyone to read, as the user's umask has it
		return fmt.Errorf("config: save to %s: %w", o.output, errors.Unwrap(err))
	}
	return nil
}

// configText is what is asked for: one of the lists, or the whole project.
func (a *app) configText(ctx context.Context, loaded *stack.Loaded, services []string, o *configOptions) ([]byte, error) {
	switch {
	case o.services:
		return textLines(loaded.ServiceNames()), nil
	case o.volumes:
		return textLines(loaded.VolumeNames()), nil
	case o.networks:
		return textLines(loaded.NetworkNames()), nil
	case o.hash != "":
		return hashLines(loaded, o.hash)
	case o.profiles:
		return textLines(loaded.ProfileNames()), nil
	case o.variables:
		return variableTable(loaded.Variables(), o.format)
	case o.environment:
		return textLines(loaded.Environment()), nil
	}
	if !o.noInterpolate {
		var err error
		if loaded, err = loaded.Select(services); err != nil {
			return nil, err
		}
	} else if len(services) > 0 {
		return nil, errors.New("config: services cannot be chosen with --no-interpolate")
	}
	if o.images {
		return textLines(loaded.Images()), nil
	}
	if o.pin || o.lock {
		engine, err := a.openEngine(ctx)
		if err != nil {
			return nil, err
		}
		loaded, err = loaded.PinImages(func(ref string) (string, error) { return engine.ImageDigest(ctx, ref) }, o.lock)
		if err != nil {
			return nil, err
		}
	}
	if o.format == "json" {
		return loaded.JSON()
	}
	return loaded.YAML()
}

func textLines(lines []string) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// hashLines are the revisions of the services in list, "*" meaning all, sorted.
func hashLines(loaded *stack.Loaded, list string) ([]byte, error) {
	var services []string
	if list != "*" {
		services = strings.Split(list, ",")
	}
	hashes, err := loaded.Hashes(services)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(hashes, func(a, b stack.Hash) int { return strings.Compare(a.Service, b.Service) })
	lines := make([]string, len(hashes))
	for i, h := range hashes {
		lines[i] = h.Service + " " + h.Revision
	}
	return textLines(lines), nil
}

func variableTable(vars []stack.Variable, format string) ([]byte, error) {
	var b bytes.Buffer
	switch format {
	case "json":
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		err := enc.Encode(vars)
		return b.Bytes(), err
	case "yaml":
		for _, v := range vars {
			_, _ = fmt.Fprintf(&b, "%s:\n    name: %s\n    defaultvalue: %q\n    presencevalue: %q\n    required: %t\n", v.Name, v.Name, v.Default, v.Alternate, v.Required)
		}
		return b.Bytes(), nil
	}
	l := listing[stack.Variable]{Columns: []column[stack.Variable]{
		{"NAME", func(v stack.Variable) string { return v.Name }},
		{"REQUIRED", func(v stack.Variable) string { return strconv.FormatBool(v.Required) }},
		{"DEFAULT VALUE", func(v stack.Variable) string { return v.Default }},
		{"ALTERNATE VALUE", func(v stack.Variable) string { return v.Alternate }},
	}}
	err := l.table(io.Writer(&b), vars)
	return b.Bytes(), err
}
