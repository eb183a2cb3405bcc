package stack

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

var (
	yamlLine = regexp.MustCompile(`\bline (\d+)`)
	// The places that the library names in its messages.
	dottedPath = regexp.MustCompile(`\b(?:services|networks|volumes|secrets|configs|jobs|models|include)(?:[.\[][\w.\[\]-]*[\w\]])`)
	quotedName = regexp.MustCompile(`\b(service|network|volume|secret|config) "?([\w.-]+)"?`)
)

// Variable is a variable that the files use, for config --variables.
type Variable struct {
	Name      string `json:"name"`
	Required  bool   `json:"required"`
	Default   string `json:"default"`
	Alternate string `json:"alternate"` // the value of ${NAME:+value}
}

// fail is an error about the value at a path.
func (l *loading) fail(err error, path ...string) error {
	return l.at(l.position(path...), clip(strings.Join(path, ".")), err)
}

// at puts an error behind its place, on one line.
func (l *loading) at(pos Position, path string, err error) error {
	if pos.File == "" {
		return fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Errorf("%s: %s: %w", pos, path, err)
}

// locate puts an error of the library on one line and in front of it the file
// and line it speaks of, as far as its text tells.
func (l *loading) locate(err error) error {
	if err == nil {
		return nil
	}
	msg := strings.TrimPrefix(oneLine(err.Error()), "decoding failed due to the following error(s): ")
	var missing *template.MissingRequiredError
	if errors.As(err, &missing) {
		if pos := l.variablePosition(missing.Variable); pos.File != "" {
			return fmt.Errorf("%s: %s", pos, msg)
		}
	}
	path := []string(nil)
	if m := dottedPath.FindString(msg); m != "" {
		path = strings.Split(strings.ReplaceAll(m, "[", "."), ".")
		for i := range path {
			path[i] = strings.Trim(path[i], "]")
		}
	} else if strings.HasPrefix(msg, "invalid containerPort") || strings.HasPrefix(msg, "invalid hostPort") {
		path = l.variablePort()
	} else if m := quotedName.FindStringSubmatch(msg); m != nil {
		path = []string{m[1] + "s", m[2]}
	}
	if path != nil {
		if pos := l.position(path...); pos.File != "" {
			return fmt.Errorf("%s: %s", pos, msg)
		}
	}
	if len(l.sources) > 0 && !strings.Contains(msg, l.sources[0].name) {
		return fmt.Errorf("%s: %s", l.sources[0].name, msg)
	}
	return errors.New(msg)
}

// oneLine makes a text fit for one line of a terminal.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
	const most = 600
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// clip makes a value from a file safe and short enough for a message.
func clip(s string) string {
	s = oneLine(s)
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// warn notes that something is not carried out, once.
func (l *loading) warn(message string, path ...string) {
	l.warnings[Warning{Position: l.position(path...), Path: strings.Join(path, "."), Message: message}] = true
}

func (l *loading) sortedWarnings() []Warning {
	for name := range l.unset {
		w := Warning{Position: l.variablePosition(name), Path: name, Message: fmt.Sprintf("the variable %s is not set; it counts as empty", name)}
		l.warnings[w] = true
	}
	out := make([]Warning, 0, len(l.warnings))
	for w := range l.warnings {
		w.Message = l.redact(w.Message)
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return out
}

func (l *loading) lookup(name string) (string, bool) {
	v, ok := l.env[name]
	return v, ok
}

func lookupIn(env types.Mapping) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

// substitute replaces variables as Compose does, and remembers those that
// have neither a value nor a default.
func (l *loading) substitute(text string, lookup template.Mapping) (string, error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	missed := false
	out, err := template.SubstituteWithOptions(text, func(name string) (string, bool) {
		v, ok := lookup(name)
		missed = missed || !ok
		if ok {
			l.used[name] = v
		}
		return v, ok
	}, template.WithoutLogging)
	if err != nil || !missed {
		return out, err
	}
	for name, v := range template.ExtractVariables(map[string]any{"": text}, nil) {
		if _, ok := lookup(name); !ok && v.DefaultValue == "" && v.PresenceValue == "" && !v.Required && !defaulted(text, name) {
			l.unset[name] = true
		}
	}
	return out, nil
}

// defaulted reports whether every use of a variable in the text gives a
// default, an empty one included.
func defaulted(text, name string) bool {
	return !strings.Contains(text, "${"+name+"}") && !strings.Contains(text, "$"+name)
}

// variablePort is where a port stands that only interpolation completes: the
// library does not say which one it could not read.
func (l *loading) variablePort() []string {
	for _, s := range l.sources {
		services := s.find("services")
		if services == nil {
			continue
		}
		var path []string
		_ = eachPair(services, func(key, value *yaml.Node) error {
			if ports := child(value, "ports"); ports != nil && path == nil {
				for i, p := range resolved(ports).Content {
					if strings.Contains(p.Value, "$") {
						path = []string{"services", key.Value, "ports", strconv.Itoa(i)}
					}
				}
			}
			return nil
		})
		if path != nil {
			return path
		}
	}
	return nil
}

// redacted replaces the values of variables in an error by their names.
func (l *loading) redacted(err error) error {
	msg := err.Error()
	if clean := l.redact(msg); clean != msg {
		return errors.New(clean)
	}
	return err
}

// redact replaces, in a message, the values that interpolation has put into
// the files, also where the message shows only their beginning or has made
// them printable.
func (l *loading) redact(msg string) string {
	for _, name := range slices.Sorted(maps.Keys(l.used)) {
		value := l.used[name]
		quoted := strconv.Quote(value)
		for _, form := range []string{value, oneLine(value), quoted[1 : len(quoted)-1]} {
			msg = replaceValue(msg, form, "${"+name+"}")
		}
	}
	return msg
}

// replaceValue replaces each occurrence of a value, or of its beginning.
func replaceValue(msg, value, by string) string {
	const least, whole = 4, 8
	if len(value) < least {
		return msg
	}
	head := value[:min(len(value), whole)]
	for from := 0; ; {
		i := strings.Index(msg[from:], head)
		if i < 0 {
			return msg
		}
		i += from
		n := len(head)
		for n < len(value) && i+n < len(msg) && msg[i+n] == value[n] {
			n++
		}
		msg = msg[:i] + by + msg[i+n:]
		from = i + len(by)
	}
}

// variablePosition is the first place a variable is used at.
func (l *loading) variablePosition(name string) Position {
	for _, s := range l.sources {
		for _, doc := range s.docs {
			if n := findVariable(doc, name); n != nil {
				return Position{File: s.name, Line: n.Line}
			}
		}
	}
	return Position{}
}

func findVariable(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.ScalarNode {
		if strings.Contains(n.Value, "$"+name) || strings.Contains(n.Value, "${"+name) {
			return n
		}
		return nil
	}
	for _, c := range n.Content {
		if found := findVariable(c, name); found != nil {
			return found
		}
	}
	return nil
}

// variableList are the variables of the files named by the user, by name.
func (l *loading) variableList() []Variable {
	all := map[string]Variable{}
	for _, s := range l.sources {
		for _, doc := range s.docs {
			collectVariables(doc, all)
		}
	}
	out := make([]Variable, 0, len(all))
	for _, v := range all {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Variable) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func collectVariables(n *yaml.Node, all map[string]Variable) {
	for _, c := range n.Content {
		collectVariables(c, all)
	}
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "$") {
		return
	}
	for name, v := range template.ExtractVariables(map[string]any{"": n.Value}, nil) {
		have := all[name]
		all[name] = Variable{
			Name:      name,
			Required:  have.Required || v.Required,
			Default:   cmp.Or(have.Default, v.DefaultValue),
			Alternate: cmp.Or(have.Alternate, v.PresenceValue),
		}
	}
}

// splitPath takes a pattern of the support table apart.
func splitPath(path string) []string { return strings.Split(path, ".") }
