package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

const (
	maxSources = 256     // files of one project: included and extended ones count
	maxNodes   = 100_000 // YAML nodes of one file with its aliases expanded
	maxDepth   = 64      // of nesting
)

// source is one Compose file as it stands on disk: the place that warnings
// and errors point at.
type source struct {
	name     string // as messages show it
	path     string // absolute, or "-"
	included bool   // reached by include or extends
	whole    bool   // checked as a whole, not only the services that others extend
	content  []byte
	docs     []*yaml.Node // the root of each document, a mapping
}

// readSources reads every file of the project, those included and extended
// among them, and checks each against the schema before the library sees it.
func (l *loading) readSources(ctx context.Context) error {
	for _, f := range l.files {
		if err := l.readSource(ctx, f, l.dir, l.env, nil); err != nil {
			return err
		}
	}
	return nil
}

// origin is where a file is included or extended from.
type origin struct {
	pos  Position
	path string // of the key that names it
}

// readSource reads a file named by the user or by include, and all it refers to.
func (l *loading) readSource(ctx context.Context, path, dir string, env types.Mapping, from *origin) error {
	s, fresh, err := l.open(ctx, path, from)
	if err != nil || !fresh && s.whole {
		return err
	}
	s.whole, s.included = true, from != nil
	if err := l.validate(s); err != nil {
		return err
	}
	return l.readReferenced(ctx, s, dir, env)
}

// open reads and parses a file, unless that has been done already.
func (l *loading) open(ctx context.Context, path string, from *origin) (s *source, fresh bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	if s := l.byPath[path]; s != nil {
		return s, false, nil
	}
	var data []byte
	if len(l.byPath) >= maxSources {
		err = fmt.Errorf("more than %d files are included", maxSources)
	} else {
		data, err = l.readComposeFile(path)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", l.show(path), err)
		if from != nil {
			err = l.at(from.pos, from.path, err)
		}
		return nil, false, err
	}
	s = &source{name: l.show(path), path: path, included: from != nil, content: data}
	l.byPath[path] = s
	l.sources = append(l.sources, s)
	return s, true, s.parse()
}

func (l *loading) readComposeFile(path string) ([]byte, error) {
	if path != stdinName {
		return readRegular(path, maxComposeFile)
	}
	in := l.opts.Stdin
	if in == nil {
		in = os.Stdin
	}
	data, err := io.ReadAll(io.LimitReader(in, maxComposeFile+1))
	if err == nil && len(data) > maxComposeFile {
		err = fmt.Errorf("larger than %d bytes", maxComposeFile)
	}
	return data, err
}

// parse reads the YAML into nodes and bounds what a file may expand to.
func (s *source) parse() error {
	roots, err := s.documents(maxNodes)
	if err != nil {
		return err
	}
	for _, root := range roots {
		if root.Kind != yaml.MappingNode {
			return fmt.Errorf("%s: a Compose file is a mapping of services:, networks: and so on; this is a %s", Position{s.name, root.Line}, kindName(root))
		}
	}
	if len(roots) == 0 {
		return fmt.Errorf("%s: the file is empty", s.name)
	}
	s.docs = roots
	return nil
}

// documents are the roots of the documents that hold anything, each of at most
// so many values with its aliases expanded.
func (s *source) documents(most int) ([]*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(s.content))
	var roots []*yaml.Node
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return nil, s.yamlError(err)
		}
		root := &doc
		if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
			root = root.Content[0]
		}
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			continue
		}
		e := expansion{source: s, sizes: map[*yaml.Node]int{}, most: most}
		if _, err := e.size(root, 0); err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
}

// yamlError puts a parser's message on one line behind file and line: where
// the construct began that it could not read.
func (s *source) yamlError(err error) error {
	msg := oneLine(strings.TrimPrefix(err.Error(), "yaml: "))
	pos := Position{File: s.name}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		pos.Line, _ = strconv.Atoi(m[1])
	}
	if i := strings.LastIndex(msg, ": "); i >= 0 {
		msg = msg[i+2:]
	}
	return fmt.Errorf("%s: not valid YAML: %s", pos, msg)
}

// expansion counts the nodes a document has once its aliases are expanded,
// without expanding them.
type expansion struct {
	source *source
	sizes  map[*yaml.Node]int // -1: being counted
	most   int
}

func (e *expansion) size(n *yaml.Node, depth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("%s: nested deeper than %d levels", Position{e.source.name, n.Line}, maxDepth)
	}
	switch size, ok := e.sizes[n]; {
	case ok && size < 0:
		return 0, fmt.Errorf("%s: the anchor &%s contains itself", Position{e.source.name, n.Line}, clip(n.Anchor))
	case ok:
		return size, nil
	}
	if n.Kind == yaml.ScalarNode {
		return 1, nil
	}
	e.sizes[n] = -1
	total := 1
	children := n.Content
	if n.Kind == yaml.AliasNode {
		children = []*yaml.Node{n.Alias}
	}
	for _, c := range children {
		size, err := e.size(c, depth+1)
		if err != nil {
			return 0, err
		}
		if total += size; total > e.most {
			return 0, fmt.Errorf("%s: the file has more than %d values once its anchors are expanded", Position{e.source.name, n.Line}, e.most)
		}
	}
	e.sizes[n] = total
	return total, e.duplicates(n)
}

// duplicates refuses a mapping that has a key twice.
func (e *expansion) duplicates(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if first, ok := seen[k.Value]; ok {
			return fmt.Errorf("%s: the key %q stands here a second time; the first is on line %d", Position{e.source.name, k.Line}, clip(k.Value), first)
		}
		seen[k.Value] = k.Line
	}
	return nil
}

// find returns the value node at a path, or nil. The last document wins.
func (s *source) find(path ...string) *yaml.Node {
	for i := len(s.docs) - 1; i >= 0; i-- {
		if n, depth := descend(s.docs[i], path); depth == len(path) {
			return n
		}
	}
	return nil
}

// descend follows a path as far as it goes and returns the last node and how
// many elements were found.
func descend(n *yaml.Node, path []string) (*yaml.Node, int) {
	for i, key := range path {
		next := child(n, key)
		if next == nil {
			return n, i
		}
		n = next
	}
	return n, len(path)
}

// child is the value under a key, or the element at an index, of a node.
func child(n *yaml.Node, key string) *yaml.Node {
	n = resolved(n)
	if n.Kind == yaml.SequenceNode {
		return element(n, key)
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	var merged *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return withLine(n.Content[i+1], n.Content[i].Line)
		}
		if n.Content[i].Value == "<<" {
			merged = resolved(n.Content[i+1])
		}
	}
	return mergedChild(merged, key)
}

// element finds a list's element by its index, or by its name where it is a
// list of KEY=value or of names.
func element(n *yaml.Node, key string) *yaml.Node {
	if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
		return n.Content[i]
	}
	for _, c := range n.Content {
		if c.Kind == yaml.ScalarNode && (c.Value == key || strings.HasPrefix(c.Value, key+"=")) {
			return c
		}
	}
	return nil
}

func mergedChild(n *yaml.Node, key string) *yaml.Node {
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.MappingNode:
		return child(n, key)
	}
	for _, c := range n.Content {
		if found := child(c, key); found != nil {
			return found
		}
	}
	return nil
}

// withLine returns the node, at the line of its key.
func withLine(n *yaml.Node, line int) *yaml.Node {
	if n.Line == line {
		return n
	}
	c := *n
	c.Line = line
	return &c
}

// resolved follows an alias.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!int", "!!float":
			return "number"
		case "!!bool":
			return "boolean"
		case "!!null":
			return "empty value"
		}
		return "text"
	case yaml.AliasNode, yaml.DocumentNode, yaml.StreamNode:
	}
	return "value"
}

// position finds where a path stands: in the file that says most of it, the
// last one of several.
func (l *loading) position(path ...string) Position {
	best, depth := Position{}, -1
	for _, s := range l.sources {
		for _, doc := range s.docs {
			n, d := descend(doc, path)
			if d > depth || d == depth && d > 0 {
				best, depth = Position{File: s.name, Line: n.Line}, d
			}
		}
	}
	return best
}

// readReferenced reads what a file includes and extends. dir is what its own
// paths count from, env what its variables mean.
func (l *loading) readReferenced(ctx context.Context, s *source, dir string, env types.Mapping) error {
	for _, doc := range s.docs {
		if err := l.readIncludes(ctx, s, child(doc, "include"), dir, env); err != nil {
			return err
		}
		services := child(doc, "services")
		if services == nil {
			continue
		}
		err := eachPair(services, func(key, value *yaml.Node) error {
			return l.readExtended(ctx, s, key.Value, value, dir, env, 0)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readExtended reads the file a service extends another one from, and
// checks that one. What it extends in turn is followed too.
func (l *loading) readExtended(ctx context.Context, s *source, name string, service *yaml.Node, dir string, env types.Mapping, depth int) error {
	extends := child(service, "extends")
	if extends == nil || depth > maxDepth {
		return nil // a cycle of extends is the library's to report
	}
	target := child(extends, "service")
	if target == nil {
		target = resolved(extends) // the short form
	}
	if file := child(extends, "file"); file != nil && file.Kind == yaml.ScalarNode {
		from := &origin{pos: Position{s.name, file.Line}, path: "services." + name + ".extends.file"}
		path, err := l.local(file.Value, dir, env, from)
		if err != nil {
			return err
		}
		if s, _, err = l.open(ctx, path, from); err != nil {
			return err
		}
		dir = filepath.Dir(path)
	}
	if !s.whole {
		if err := l.validateService(s, target.Value); err != nil {
			return err
		}
	}
	if base := s.find("services", target.Value); base != nil {
		return l.readExtended(ctx, s, target.Value, base, dir, env, depth+1)
	}
	return nil
}

func (l *loading) readIncludes(ctx context.Context, s *source, list *yaml.Node, dir string, env types.Mapping) error {
	if list == nil {
		return nil
	}
	for i, item := range resolved(list).Content {
		item = resolved(item)
		from := &origin{pos: Position{s.name, item.Line}, path: "include." + strconv.Itoa(i)}
		if err := l.readInclude(ctx, item, dir, env, from); err != nil {
			return err
		}
	}
	return nil
}

// readInclude reads an include, in its short or long form.
func (l *loading) readInclude(ctx context.Context, item *yaml.Node, dir string, env types.Mapping, from *origin) error {
	paths, project := scalars(item), ""
	if item.Kind != yaml.ScalarNode {
		if paths = nil; child(item, "path") != nil {
			paths = scalars(child(item, "path"))
		}
		if n := child(item, "project_directory"); n != nil {
			v, err := l.substitute(n.Value, lookupIn(env))
			if err != nil {
				return l.at(from.pos, from.path+".project_directory", err)
			}
			project = joinDir(dir, v)
		}
	}
	for i, ref := range paths {
		path, err := l.local(ref, dir, env, from)
		if err != nil {
			return err
		}
		if i == 0 { // the main file; the others override it
			if project == "" {
				project = filepath.Dir(path)
			}
			if env, err = l.includeEnv(item, dir, project, env, from); err != nil {
				return err
			}
		}
		if err := l.readSource(ctx, path, project, env, from); err != nil {
			return err
		}
	}
	return nil
}

// includeEnv adds what the included project's env files hold, its .env if none are named.
func (l *loading) includeEnv(item *yaml.Node, dir, project string, env types.Mapping, from *origin) (types.Mapping, error) {
	var files []string
	if n := child(item, "env_file"); n != nil {
		for _, f := range scalars(n) {
			f, err := l.substitute(f, lookupIn(env))
			if err != nil {
				return nil, l.at(from.pos, from.path+".env_file", err)
			}
			if f != os.DevNull {
				files = append(files, joinDir(dir, f))
			}
		}
	} else if f := filepath.Join(project, ".env"); isFile(f) {
		files = []string{f}
	}
	vars := map[string]string{}
	for _, f := range files {
		if err := readDotenv(f, vars, env); err != nil {
			return nil, l.at(from.pos, from.path, fmt.Errorf("%s: env file: %w", l.show(f), err))
		}
	}
	return env.Clone().Merge(vars), nil
}

// isFile reports whether there is something other than a directory.
func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && !st.IsDir()
}

// local is the path a reference to another Compose file means. Nothing is
// ever fetched.
func (l *loading) local(ref, dir string, env types.Mapping, from *origin) (string, error) {
	ref, err := l.substitute(ref, lookupIn(env))
	if err != nil {
		return "", l.at(from.pos, from.path, err)
	}
	if remote(ref) {
		return "", l.at(from.pos, from.path, fmt.Errorf("%q is not a local file: files from Git, OCI registries and the web are not fetched; check it out and name the local path", clip(ref)))
	}
	return joinDir(dir, ref), nil
}

// remote reports whether a reference names something that would have to be fetched.
func remote(ref string) bool {
	return strings.Contains(ref, "://") || strings.HasPrefix(ref, "git@") || strings.HasPrefix(ref, "github.com/") ||
		strings.HasPrefix(ref, "oci:") || strings.Contains(ref, ".git#")
}

func joinDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// scalars are the values of a list, or the one value.
func scalars(n *yaml.Node) []string {
	n = resolved(n)
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}
	}
	var out []string
	for _, c := range n.Content {
		if c = resolved(c); c.Kind == yaml.ScalarNode {
			out = append(out, c.Value)
		} else if p := child(c, "path"); p != nil {
			out = append(out, p.Value)
		}
	}
	return out
}
