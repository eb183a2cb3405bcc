package stack

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// composeSchema is the Compose specification's own schema without its prose,
// kept equal to the library's by a test. It is read here rather than by the
// library because that takes longer than all the rest of a load, and because
// only the YAML nodes know on which line a wrong key stands.
//
//go:embed compose.schema.json
var composeSchema []byte

// berthSchema is the published schema of x-berth.
//
//go:embed x-berth.schema.json
var berthSchema []byte

// rule is the part of JSON Schema that the two schemas use.
type rule struct {
	ref         string
	types       []string
	properties  map[string]*rule
	patterns    map[string]*rule // patternProperties
	additional  *rule            // additionalProperties
	unevaluated *rule            // unevaluatedProperties
	items       *rule
	oneOf       []*rule
	anyOf       []*rule
	allOf       []*rule
	required    []string
	enum        []any
	pattern     string
	format      string
	minimum     *float64
	maximum     *float64
	minItems    int
	maxLength   int
	unique      bool // uniqueItems
	defs        map[string]*rule

	never bool // the schema false
}

// newRule reads a decoded schema. Reading it by hand takes a fifth of the time
// that a decoder of nested types takes.
func newRule(v any) *rule {
	m, ok := v.(map[string]any)
	if !ok {
		return &rule{never: v == false}
	}
	r := &rule{}
	for key, v := range m {
		r.set(key, v)
	}
	return r
}

func (r *rule) set(key string, v any) {
	switch key {
	case "$ref":
		r.ref, _ = v.(string)
	case "type":
		r.types = stringList(v)
	case "properties":
		r.properties = ruleMap(v)
	case "patternProperties":
		r.patterns = ruleMap(v)
	case "additionalProperties":
		r.additional = newRule(v)
	case "unevaluatedProperties":
		r.unevaluated = newRule(v)
	case "items":
		r.items = newRule(v)
	case "oneOf":
		r.oneOf = ruleList(v)
	case "anyOf":
		r.anyOf = ruleList(v)
	case "allOf":
		r.allOf = ruleList(v)
	case "required":
		r.required = stringList(v)
	case "enum":
		r.enum, _ = v.([]any)
	case "pattern":
		r.pattern, _ = v.(string)
	case "format":
		r.format, _ = v.(string)
	case "minimum":
		r.minimum = number(v)
	case "maximum":
		r.maximum = number(v)
	case "minItems":
		r.minItems = int(*number(v))
	case "maxLength":
		r.maxLength = int(*number(v))
	case "uniqueItems":
		r.unique, _ = v.(bool)
	case "$defs":
		r.defs = ruleMap(v)
	}
}

func number(v any) *float64 {
	f, _ := v.(float64)
	return &f
}

func stringList(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	list, _ := v.([]any)
	out := make([]string, len(list))
	for i, e := range list {
		out[i], _ = e.(string)
	}
	return out
}

func ruleList(v any) []*rule {
	list, _ := v.([]any)
	out := make([]*rule, len(list))
	for i, e := range list {
		out[i] = newRule(e)
	}
	return out
}

func ruleMap(v any) map[string]*rule {
	m, _ := v.(map[string]any)
	out := make(map[string]*rule, len(m))
	for k, e := range m {
		out[k] = newRule(e)
	}
	return out
}

// composeRules and berthRules read the schemas, once in a process and the
// second only where x-berth is used.
var (
	composeRules = sync.OnceValues(func() (*rule, error) {
		r, err := readRules(composeSchema)
		if err == nil {
			r.addFormats()
		}
		return r, err
	})
	berthRules = sync.OnceValues(func() (*rule, error) { return readRules(berthSchema) })
)

func readRules(data []byte) (*rule, error) {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("read the built-in schema: %w", err)
	}
	return newRule(v), nil
}

// addFormats adds the checks that the specification states in prose only.
func (r *rule) addFormats() {
	set := func(def string, format string, path ...string) {
		at := r.defs[def]
		for _, p := range path {
			if at == nil {
				return
			}
			at = at.properties[p]
		}
		if at != nil {
			at.format = format
		}
	}
	set("container_spec", "duration", "stop_grace_period")
	for _, k := range []string{"interval", "timeout", "start_period", "start_interval"} {
		set("healthcheck", "duration", k)
	}
	for _, part := range []string{"update_config", "rollback_config"} {
		set("deployment", "duration", part, "delay")
		set("deployment", "duration", part, "monitor")
		set("deployment", "count", part, "parallelism")
		set("deployment", "ratio", part, "max_failure_ratio")
	}
	set("deployment", "duration", "restart_policy", "delay")
	set("deployment", "duration", "restart_policy", "window")
	for _, k := range []string{"mem_limit", "mem_reservation", "memswap_limit", "shm_size"} {
		set("container_spec", "bytes", k)
	}
	set("deployment", "bytes", "resources", "limits", "memory")
	set("deployment", "bytes", "resources", "reservations", "memory")
	set("deployment", "count", "placement", "max_replicas_per_node")
	set("service", "restart", "restart")
	for _, short := range r.defs["workload_spec"].properties["ports"].items.oneOf {
		short.format = "port"
	}
	set("container_spec", "number", "cpus")
	set("deployment", "number", "resources", "limits", "cpus")
	set("deployment", "number", "resources", "reservations", "cpus")
}

// validate checks a file against the schemas.
func (l *loading) validate(s *source) error {
	root, err := composeRules()
	if err != nil {
		return err
	}
	v := &validator{source: s, root: root}
	for _, doc := range s.docs {
		if err := v.check(root, doc, nil); err != nil {
			return err
		}
		if err := v.extensions(doc); err != nil {
			return err
		}
	}
	return nil
}

// validateService checks the one service of a file that another extends: the
// rest of such a file may be meant for another purpose.
func (l *loading) validateService(s *source, name string) error {
	root, err := composeRules()
	if err != nil {
		return err
	}
	v := &validator{source: s, root: root}
	for _, doc := range s.docs {
		n := child(doc, "services")
		if n == nil {
			continue
		}
		if n = child(n, name); n == nil {
			continue
		}
		path := []string{"services", name}
		if err := v.check(root.defs["service"], n, path); err != nil {
			return err
		}
		if err := v.extension("service", child(n, extensionKey), append(path, extensionKey)); err != nil {
			return err
		}
	}
	return nil
}

// extensionKey is the one key that holds what Berth adds to the specification.
const extensionKey = "x-berth"

// extensions checks x-berth at top level and on each service.
func (v *validator) extensions(doc *yaml.Node) error {
	if err := v.extension("project", child(doc, extensionKey), []string{extensionKey}); err != nil {
		return err
	}
	services := child(doc, "services")
	if services == nil {
		return nil
	}
	return eachPair(services, func(key, value *yaml.Node) error {
		return v.extension("service", child(value, extensionKey), []string{"services", key.Value, extensionKey})
	})
}

func (v *validator) extension(def string, n *yaml.Node, path []string) error {
	if n == nil || n.Tag == "!reset" {
		return nil
	}
	root, err := berthRules()
	if err != nil {
		return err
	}
	b := validator{source: v.source, root: root, lenient: true}
	return b.check(root.defs[def], n, path)
}

// validator checks the nodes of one file. A scalar with a variable in it fits
// every scalar type: the library converts it once it is known.
type validator struct {
	source  *source
	root    *rule // whose $defs a $ref means
	ports   int   // published so far
	settled bool  // all variables have been replaced
	// lenient takes text that reads as a number or boolean as one, as the
	// specification's own schema does: interpolation leaves text.
	lenient bool
}

// invalid is a violation; the deeper it is, the more it tells.
type invalid struct {
	pos   Position
	path  []string
	msg   string
	depth int
	// kind is set when the value's kind itself is wrong.
	kind bool
}

func (e *invalid) Error() string {
	if len(e.path) == 0 {
		return fmt.Sprintf("%s: %s", e.pos, e.msg)
	}
	return fmt.Sprintf("%s: %s: %s", e.pos, clip(strings.Join(e.path, ".")), e.msg)
}

func (v *validator) fail(n *yaml.Node, path []string, format string, args ...any) *invalid {
	return &invalid{pos: Position{v.source.name, n.Line}, path: slices.Clone(path), msg: fmt.Sprintf(format, args...), depth: len(path)}
}

func (v *validator) check(r *rule, n *yaml.Node, path []string) error {
	if e := v.value(r, n, path); e != nil {
		return e
	}
	return nil
}

// deref follows a $ref.
func (v *validator) deref(r *rule) *rule {
	for r.ref != "" {
		name := r.ref[strings.LastIndexByte(r.ref, '/')+1:]
		next := v.root.defs[name]
		if next == nil {
			return r
		}
		r = next
	}
	return r
}

func (v *validator) value(r *rule, n *yaml.Node, path []string) *invalid {
	r = v.deref(r)
	if n.Tag == "!reset" {
		return nil
	}
	line := n.Line
	n = withLine(resolved(n), line)
	if len(r.oneOf) > 0 {
		return v.alternatives(r.oneOf, n, path)
	}
	for _, sub := range r.allOf {
		if sub = v.deref(sub); sub.properties == nil { // properties are gathered by mapping
			if e := v.value(sub, n, path); e != nil {
				return e
			}
		}
	}
	if len(r.anyOf) > 0 {
		if e := v.alternatives(r.anyOf, n, path); e != nil {
			return e
		}
	}
	if want := v.types(r); len(want) > 0 && !v.fits(want, n) {
		e := v.fail(n, path, "is %s; it must be %s", article(kindName(n)), wanted(want))
		e.kind = true
		return e
	}
	switch n.Kind {
	case yaml.MappingNode:
		return v.mapping(r, n, path)
	case yaml.SequenceNode:
		return v.sequence(r, n, path)
	case yaml.ScalarNode:
		return v.scalar(r, n, path)
	case yaml.AliasNode, yaml.DocumentNode, yaml.StreamNode:
	}
	return nil
}

// types are the kinds of value a rule, or what it is made of, accepts.
func (v *validator) types(r *rule) []string {
	for _, sub := range r.allOf {
		if len(r.types) == 0 {
			r = v.deref(sub)
		}
	}
	return r.types
}

// variable reports whether a scalar's value is known only after interpolation.
func (v *validator) variable(n *yaml.Node) bool {
	return !v.settled && n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$")
}

// fits reports whether a node is of one of the types.
func (v *validator) fits(want []string, n *yaml.Node) bool {
	for _, t := range want {
		switch t {
		case "object":
			if n.Kind == yaml.MappingNode {
				return true
			}
		case "array":
			if n.Kind == yaml.SequenceNode {
				return true
			}
		default:
			if n.Kind == yaml.ScalarNode && (v.variable(n) || scalarFits(t, n.ShortTag()) || v.lenient && readsAs(t, n.Value)) {
				return true
			}
		}
	}
	return false
}

// readsAs reports whether a text is a scalar of a type once it stands without quotes.
func readsAs(want, text string) bool {
	var err error
	switch want {
	case "integer":
		_, err = strconv.ParseInt(text, 10, 64)
	case "number":
		_, err = strconv.ParseFloat(text, 64)
	case "boolean":
		return text == "true" || text == "false"
	default:
		return false
	}
	return err == nil
}

func scalarFits(want, tag string) bool {
	switch want {
	case "string":
		return tag != "!!int" && tag != "!!float" && tag != "!!bool" && tag != "!!null"
	case "integer":
		return tag == "!!int"
	case "number":
		return tag == "!!int" || tag == "!!float"
	case "boolean":
		return tag == "!!bool"
	case "null":
		return tag == "!!null"
	}
	return false
}

// alternatives passes when one does. Else it reports the one that was meant:
// the only one of the value's kind, or the one that came furthest.
func (v *validator) alternatives(list []*rule, n *yaml.Node, path []string) *invalid {
	var best *invalid
	var types []string
	for _, r := range list {
		e := v.value(r, n, path)
		if e == nil {
			return nil
		}
		types = append(types, v.deref(r).types...)
		if best == nil || best.kind && !e.kind || !best.kind && !e.kind && e.depth > best.depth {
			best = e
		}
	}
	if best.kind && best.depth == len(path) && len(types) > 0 {
		slices.Sort(types)
		best.msg = fmt.Sprintf("is %s; it must be %s", article(kindName(n)), wanted(slices.Compact(types)))
	}
	return best
}

// property finds the rule of a key in a rule and those it is made of.
func (v *validator) property(r *rule, key string) (found *rule, closed bool) {
	r = v.deref(r)
	if p := r.properties[key]; p != nil {
		return p, false
	}
	for pattern, p := range r.patterns {
		if matches(pattern, key) {
			return p, false
		}
	}
	for _, sub := range r.allOf {
		p, c := v.property(sub, key)
		if p != nil {
			return p, false
		}
		closed = closed || c
	}
	for _, rest := range []*rule{r.additional, r.unevaluated} {
		switch {
		case rest == nil:
		case rest.never:
			closed = true
		default:
			return rest, false
		}
	}
	return nil, closed
}

// known lists the keys a rule names.
func (v *validator) known(r *rule) []string {
	r = v.deref(r)
	out := slices.Collect(maps.Keys(r.properties))
	for _, sub := range r.allOf {
		out = append(out, v.known(sub)...)
	}
	slices.Sort(out)
	return out
}

func (v *validator) mapping(r *rule, n *yaml.Node, path []string) *invalid {
	present := map[string]bool{}
	err := eachPair(n, func(key, value *yaml.Node) error {
		present[key.Value] = true
		at := append(path, key.Value)
		p, closed := v.property(r, key.Value)
		if p == nil {
			if closed {
				return v.unknownKey(r, key, at)
			}
			return nil
		}
		if e := v.value(p, withLine(value, cmpLine(key, value)), at); e != nil {
			return e
		}
		return nil
	})
	if err != nil {
		var e *invalid
		if errors.As(err, &e) {
			return e
		}
		return v.fail(n, path, "%s", err)
	}
	for _, key := range r.required {
		if !present[key] {
			return v.fail(n, path, "the key %s is missing", key)
		}
	}
	return nil
}

// cmpLine is the line a message about a pair names: the key's, since that is
// what a reader looks for.
func cmpLine(key, value *yaml.Node) int {
	if key.Line > 0 {
		return key.Line
	}
	return value.Line
}

func (v *validator) unknownKey(r *rule, key *yaml.Node, path []string) *invalid {
	known := v.known(r)
	if len(known) == 0 {
		return v.fail(key, path, "%q is not a name: use letters, digits, '.', '_' and '-'", clip(key.Value))
	}
	if near := nearest(key.Value, known); near != "" {
		return v.fail(key, path, "unknown key %q; did you mean %s?", clip(key.Value), near)
	}
	return v.fail(key, path, "unknown key %q", clip(key.Value))
}

// eachPair calls f for each key of a mapping and of those merged into it by <<.
func eachPair(n *yaml.Node, f func(key, value *yaml.Node) error) error {
	n = resolved(n)
	if n.Kind == yaml.SequenceNode { // the value of << may be a list
		for _, c := range n.Content {
			if err := eachPair(c, f); err != nil {
				return err
			}
		}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Value == "<<" && key.Style == 0 {
			if err := eachPair(value, f); err != nil {
				return err
			}
			continue
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (v *validator) sequence(r *rule, n *yaml.Node, path []string) *invalid {
	if len(n.Content) < r.minItems {
		return v.fail(n, path, "has %d elements; it must have at least %d", len(n.Content), r.minItems)
	}
	seen := map[string]bool{}
	for i, c := range n.Content {
		at := append(path, strconv.Itoa(i))
		if r.items != nil {
			if e := v.value(r.items, c, at); e != nil {
				return e
			}
		}
		if c = resolved(c); r.unique && c.Kind == yaml.ScalarNode {
			if seen[c.Value] {
				return v.fail(c, at, "%q stands in the list twice", clip(c.Value))
			}
			seen[c.Value] = true
		}
	}
	return nil
}

func (v *validator) scalar(r *rule, n *yaml.Node, path []string) *invalid {
	if v.variable(n) {
		return nil
	}
	if len(r.enum) > 0 && !slices.ContainsFunc(r.enum, func(e any) bool { return fmt.Sprint(e) == n.Value }) {
		return v.fail(n, path, "%q is not one of %s", clip(n.Value), enumList(r.enum))
	}
	if r.pattern != "" && !matches(r.pattern, n.Value) {
		return v.fail(n, path, "%q is not a value this key takes", clip(n.Value))
	}
	if r.maxLength > 0 && len(n.Value) > r.maxLength {
		return v.fail(n, path, "is longer than %d characters", r.maxLength)
	}
	if r.minimum != nil || r.maximum != nil {
		f, err := strconv.ParseFloat(n.Value, 64)
		if err == nil && r.minimum != nil && f < *r.minimum {
			return v.fail(n, path, "%s is less than %s", clip(n.Value), plain(*r.minimum))
		}
		if err == nil && r.maximum != nil && f > *r.maximum {
			return v.fail(n, path, "%s is more than %s", clip(n.Value), plain(*r.maximum))
		}
	}
	if r.format == "port" {
		return v.port(n, path)
	}
	if msg := checkFormat(r.format, n); msg != "" {
		return v.fail(n, path, "%s", msg)
	}
	return nil
}

// plain writes a number without an exponent.
func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// maxPorts bounds how many ports the ranges of one file expand to: the library
// makes an entry of each.
const maxPorts = 16384

// port checks a published port in its short form.
func (v *validator) port(n *yaml.Node, path []string) *invalid {
	if v.ports += portCount(n.Value); v.ports > maxPorts {
		return v.fail(n, path, "the file publishes more than %d ports; publish fewer, or use network_mode: host", maxPorts)
	}
	if _, err := types.ParsePortConfig(n.Value); err != nil {
		return v.fail(n, path, "%q is not a port such as 80, 8080:80 or 127.0.0.1:8080-8090:80-90/udp: %s", clip(n.Value), clip(err.Error()))
	}
	return nil
}

// portCount is how many container ports a short form names; 1 where that cannot be told.
func portCount(s string) int {
	s, _, _ = strings.Cut(s, "/")
	first, last, err := portRange(s[strings.LastIndexByte(s, ':')+1:])
	if err != nil {
		return 1
	}
	return last - first + 1
}

// checkFormat says what is wrong with a scalar of a format, or nothing.
func checkFormat(format string, n *yaml.Node) string {
	switch format {
	case "duration":
		var d types.Duration
		if d.DecodeMapstructure(n.Value) != nil || d < 0 {
			return fmt.Sprintf("%q is not a duration such as 30s or 1m30s", clip(n.Value))
		}
	case "bytes":
		var b types.UnitBytes
		var value any = n.Value
		if i, err := strconv.Atoi(n.Value); err == nil {
			value = i
		}
		if b.DecodeMapstructure(value) != nil || b < -1 {
			return fmt.Sprintf("%q is not a size such as 512M or 1.5g", clip(n.Value))
		}
	case "number":
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || !(f >= 0 && f <= 1e6) { // also not NaN
			return fmt.Sprintf("%q is not a number of CPUs such as 0.5", clip(n.Value))
		}
	case "count":
		if _, err := strconv.ParseUint(n.Value, 10, 31); err != nil {
			return fmt.Sprintf("%q is not a number of replicas", clip(n.Value))
		}
	case "ratio":
		return checkRatio(n.Value)
	case "bitrate":
		if _, err := parseBits(n.Value); err != nil {
			return err.Error()
		}
	case "restart":
		name, count, counted := strings.Cut(n.Value, ":")
		_, err := strconv.ParseUint(count, 10, 31)
		switch {
		case name != "" && name != "no" && name != "always" && name != "unless-stopped" && name != "on-failure":
			return fmt.Sprintf("%q is not one of no, always, unless-stopped, on-failure[:n]", clip(n.Value))
		case counted && (name != "on-failure" || err != nil):
			return fmt.Sprintf("%q: only on-failure takes a number of tries", clip(n.Value))
		}
	}
	return ""
}

func checkRatio(text string) string {
	if f, err := strconv.ParseFloat(text, 64); err != nil || !(f >= 0 && f <= 1) { // also not NaN
		return fmt.Sprintf("%q is not a number between 0 and 1", clip(text))
	}
	return ""
}

// matches runs a pattern of the schema; those it uses most need no expression.
func matches(pattern, s string) bool {
	switch pattern {
	case "^x-":
		return strings.HasPrefix(s, "x-")
	case ".+", "^.+$":
		return s != ""
	case "^[a-zA-Z0-9._-]+$":
		return s != "" && strings.IndexFunc(s, func(r rune) bool {
			return !alphanumeric(r) && r != '.' && r != '_' && r != '-'
		}) < 0
	}
	known, ok := patterns.Load(pattern)
	if !ok {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return false
		}
		known, _ = patterns.LoadOrStore(pattern, re)
	}
	re, ok := known.(*regexp.Regexp)
	return ok && re.MatchString(s)
}

// patterns holds the schemas' expressions once they have been used.
var patterns sync.Map

func wanted(list []string) string {
	names := make([]string, len(list))
	for i, t := range list {
		switch t {
		case "object":
			t = "mapping"
		case "array":
			t = "list"
		case "string":
			t = "text"
		case "null":
			t = "empty value"
		}
		names[i] = article(t)
	}
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

func article(noun string) string {
	switch {
	case noun == "text":
		return noun
	case strings.HasPrefix(noun, "e"), strings.HasPrefix(noun, "i"):
		return "an " + noun
	}
	return "a " + noun
}

func enumList(list []any) string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = fmt.Sprint(e)
	}
	return strings.Join(out, ", ")
}

// nearest is the known word that differs least from a mistyped one, or "".
func nearest(word string, known []string) string {
	best, least := "", 3
	if len(word) > 64 {
		return ""
	}
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := prev
			if a[i-1] != b[j-1] {
				cost = 1 + min(prev, row[j], row[j-1])
			}
			prev, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}
