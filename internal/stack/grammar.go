package stack

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
)

const (
	// maxValue is the longest value of a variable or label, in bytes: the
	// kernel starts no process with a longer one.
	maxValue = 128<<10 - 1
	// maxArgument bounds one word of a command likewise.
	maxArgument = 128<<10 - 1
	maxName     = 253
)

// grammar refuses texts that an engine, a kernel or a terminal would misread:
// line breaks in names, control characters, leading dashes, endless values.
func (c *checker) grammar(s types.ServiceConfig) error {
	if err := checkWord(s.Name); err != nil {
		return c.bad(s, "", "%w", err)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Environment)) {
		if err := checkVariable(k, s.Environment[k]); err != nil {
			return c.badAt(s, []string{"environment", k}, "%w", err)
		}
	}
	for _, part := range []struct {
		key string
		m   map[string]string
	}{{"labels", s.Labels}, {"annotations", s.Annotations}, {"sysctls", s.Sysctls}} {
		for _, k := range slices.Sorted(maps.Keys(part.m)) {
			if err := checkLabel(k, part.m[k]); err != nil {
				return c.badAt(s, []string{part.key, k}, "%w", err)
			}
		}
	}
	for _, part := range []struct{ key, value string }{
		{"container_name", s.ContainerName}, {"hostname", s.Hostname}, {"domainname", s.DomainName}, {"user", s.User},
		{"stop_signal", s.StopSignal}, {"runtime", s.Runtime}, {"platform", s.Platform}, {"cgroup_parent", s.CgroupParent},
		{"network_mode", s.NetworkMode}, {"pid", s.Pid}, {"ipc", s.Ipc}, {"mac_address", s.MacAddress}, {"cpuset", s.CPUSet},
	} {
		if part.value == "" {
			continue
		}
		if err := checkWord(part.value); err != nil {
			return c.bad(s, part.key, "%w", err)
		}
	}
	if s.ContainerName != "" {
		if err := checkObjectName(s.ContainerName); err != nil {
			return c.bad(s, "container_name", "%w", err)
		}
	}
	return c.words(s)
}

// words checks lists whose elements become arguments or names.
func (c *checker) words(s types.ServiceConfig) error {
	for _, part := range []struct {
		key   string
		words []string
	}{{"command", s.Command}, {"entrypoint", s.Entrypoint}} {
		for _, w := range part.words {
			if err := checkArgument(w); err != nil {
				return c.bad(s, part.key, "%w", err)
			}
		}
	}
	if err := checkArgument(s.WorkingDir); err != nil {
		return c.bad(s, "working_dir", "%w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		n := s.Networks[name]
		if n == nil {
			continue
		}
		for _, alias := range n.Aliases {
			if err := checkWord(alias); err != nil {
				return c.bad(s, "networks."+name+".aliases", "%w", err)
			}
		}
	}
	for _, v := range s.Volumes {
		if err := checkArgument(v.Source); err != nil {
			return c.bad(s, "volumes", "%w", err)
		}
		if err := checkArgument(v.Target); err != nil {
			return c.bad(s, "volumes", "%w", err)
		}
	}
	return nil
}

// checkWord wants a short text without spaces, control characters or leading dash.
func checkWord(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxName && !strings.Contains(s, "{{"):
		return fmt.Errorf("is longer than %d bytes", maxName)
	case strings.HasPrefix(s, "-"):
		return fmt.Errorf("%q begins with a dash", clip(s))
	case strings.IndexFunc(s, func(r rune) bool { return invisible(r) || unicode.IsSpace(r) && !strings.Contains(s, "{{") }) >= 0:
		return fmt.Errorf("%q holds a space, line break or control character", clip(s))
	}
	return nil
}

// checkObjectName is the engine's grammar for containers and volumes.
func checkObjectName(s string) error {
	if len(s) > maxName {
		return fmt.Errorf("the name is longer than %d bytes", maxName)
	}
	for i, r := range s {
		if !alphanumeric(r) && (i == 0 || r != '.' && r != '_' && r != '-') {
			return fmt.Errorf("%q is not a name: use letters, digits, '.', '_' and '-', beginning with a letter or digit", clip(s))
		}
	}
	return nil
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// checkVariable checks an environment variable; its value is never shown.
func checkVariable(name string, value *string) error {
	switch {
	case name == "":
		return errors.New("a variable has no name")
	case len(name) > maxValue || value != nil && len(*value) > maxValue:
		return fmt.Errorf("is longer than %d bytes", maxValue)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("the name %q begins with a dash", clip(name))
	case strings.IndexFunc(name, func(r rune) bool { return invisible(r) || unicode.IsSpace(r) || r == '=' }) >= 0:
		return fmt.Errorf("the name %q holds a space, control character or '='", clip(name))
	case value != nil && strings.IndexFunc(*value, unprintable) >= 0:
		return errors.New("the value holds a control character")
	}
	return nil
}

func checkLabel(name, value string) error {
	switch {
	case name == "":
		return errors.New("a key is empty")
	case len(name) > maxName || len(value) > maxValue:
		return fmt.Errorf("the key or value is longer than %d or %d bytes", maxName, maxValue)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("the key %q begins with a dash", clip(name))
	case strings.IndexFunc(name, func(r rune) bool { return invisible(r) || unicode.IsSpace(r) || r == '=' }) >= 0:
		return fmt.Errorf("the key %q holds a space, control character or '='", clip(name))
	case strings.IndexFunc(value, unprintable) >= 0:
		return errors.New("the value holds a control character")
	}
	return nil
}

func checkArgument(s string) error {
	switch {
	case len(s) > maxArgument:
		return fmt.Errorf("is longer than %d bytes", maxArgument)
	case strings.ContainsRune(s, 0):
		return errors.New("holds a NUL character")
	}
	return nil
}

// unprintable are characters no text has: control characters except tab and
// line ends.
func unprintable(r rune) bool {
	return r != '\t' && r != '\n' && r != '\r' && r != 0x1b && unicode.IsControl(r)
}

// invisible are the characters that make a name read as another one.
func invisible(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError
}

// checkImage wants an image reference of the registry's grammar.
func checkImage(s string) error {
	if len(s) > 1024 {
		return errors.New("is longer than an image reference can be")
	}
	if _, err := reference.ParseAnyReference(s); err != nil {
		return errors.New("is not an image reference such as registry/name:tag in lower case")
	}
	return nil
}
