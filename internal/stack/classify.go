package stack

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
)

// pattern is the support table as a tree of path elements.
type pattern struct {
	next    map[string]*pattern
	support *Support
}

// unsupported holds the keys that are not carried out, built once.
var unsupported = sync.OnceValue(func() *pattern {
	root := &pattern{}
	table := SupportTable()
	for i := range table {
		if table[i].Class == Carried {
			continue
		}
		n := root
		for _, part := range splitPath(table[i].Path) {
			if n.next == nil {
				n.next = map[string]*pattern{}
			}
			if n.next[part] == nil {
				n.next[part] = &pattern{}
			}
			n = n.next[part]
		}
		n.support = &table[i]
	}
	return root
})

// finding is a key of the files that is not carried out.
type finding struct {
	path    []string
	support *Support
}

// findUnsupported walks the merged files along the support table.
func findUnsupported(model map[string]any) []finding {
	var out []finding
	var walk func(p *pattern, value any, path []string)
	walk = func(p *pattern, value any, path []string) {
		if p == nil || value == nil {
			return
		}
		if s := p.support; s != nil {
			if set(value) && (s.only == nil || s.only(value)) {
				out = append(out, finding{path: slices.Clone(path), support: s})
			}
			return
		}
		switch v := value.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(p.step(k), v[k], append(path, k))
			}
		case []any:
			for i, e := range v {
				walk(p.next["*"], e, append(path, strconv.Itoa(i)))
			}
		}
	}
	walk(unsupported(), model, nil)
	return slices.DeleteFunc(out, func(f finding) bool { return inherited(model, f.path) })
}

// inherited reports whether a key of a pre_start step is its service's, where it
// is reported already.
func inherited(model map[string]any, path []string) bool {
	if len(path) < 5 || path[0] != "services" || path[2] != "pre_start" {
		return false
	}
	services, _ := model["services"].(map[string]any)
	service, _ := services[path[1]].(map[string]any)
	steps, _ := service["pre_start"].([]any)
	i, err := strconv.Atoi(path[3])
	if err != nil || i >= len(steps) {
		return false
	}
	step, _ := steps[i].(map[string]any)
	return service[path[4]] != nil && reflect.DeepEqual(service[path[4]], step[path[4]])
}

func (p *pattern) step(k string) *pattern {
	if n := p.next[k]; n != nil {
		return n
	}
	return p.next["*"]
}

// set reports whether a value asks for anything: false and empty ones do not.
func set(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case map[string]any:
		return len(v) > 0
	case []any:
		return len(v) > 0
	}
	return true
}

// reportUnsupported warns of what is not carried out, and refuses what must
// not be left out. Services of inactive profiles do not count, nor do
// objects that no active service uses.
func (l *loading) reportUnsupported(found []finding, p *types.Project) error {
	used := inUse(p)
	for _, f := range found {
		if !active(f.path, used) {
			continue
		}
		if f.support.Fatal {
			return l.fail(fmt.Errorf("%s", f.support.message()), f.path...)
		}
		l.warn(f.support.message(), f.path...)
	}
	return nil
}

func active(path []string, used *types.Project) bool {
	if len(path) < 2 {
		return true
	}
	ok := true
	switch path[0] {
	case "services":
		_, ok = used.Services[path[1]]
	case "secrets":
		_, ok = used.Secrets[path[1]]
	case "configs":
		_, ok = used.Configs[path[1]]
	}
	return ok
}
