package reconcile

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/berth-dev/berth/internal/stack"
)

// Changed names the keys of a service's spec in which two declarations differ,
// sorted. Of the environment and the labels it names the variables, never their
// values.
func Changed(before, after *stack.Service) []string {
	var keys []string
	a, b := fields(before), fields(after)
	for k := range a {
		if string(a[k]) != string(b[k]) && !inPlace(k) {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, both := a[k]; !both && !inPlace(k) {
			keys = append(keys, k)
		}
	}
	if i := slices.Index(keys, "env"); i >= 0 {
		keys = append(slices.Delete(keys, i, i+1), changedEnv(before.Spec.Env, after.Spec.Env)...)
	}
	slices.Sort(keys)
	if len(keys) == 0 && before.Revision != after.Revision {
		return []string{"content of a config, a secret or a network"}
	}
	return keys
}

// inPlace reports whether a key of the spec changes without a new container.
func inPlace(key string) bool { return key == "limits" || key == "restart" || key == "stopGrace" }

func fields(svc *stack.Service) map[string]json.RawMessage {
	data, err := json.Marshal(&svc.Spec)
	if err != nil {
		return nil
	}
	m := map[string]json.RawMessage{}
	_ = json.Unmarshal(data, &m) // it was marshalled a line above
	return m
}

func changedEnv(before, after []string) []string {
	a, b := envMap(before), envMap(after)
	var names []string
	for k, val := range a {
		if other, ok := b[k]; !ok || other != val {
			names = append(names, "environment."+k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			names = append(names, "environment."+k)
		}
	}
	return names
}

func envMap(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, e := range env {
		k, val, _ := strings.Cut(e, "=")
		m[k] = val
	}
	return m
}

// Change is one key in which two declarations of a stack differ.
type Change struct {
	Path   string `json:"path"`             // "services.web.image"
	Before string `json:"before,omitempty"` // empty: it was not there
	After  string `json:"after,omitempty"`  // empty: it is not there any more
	// Hidden: the values are not told, as they may be secret.
	Hidden bool `json:"hidden,omitempty"`
}

// DiffStacks compares two declarations key by key, sorted by path. Of
// environment variables it tells which differ, never their values. before nil:
// there was none.
func DiffStacks(before, after *stack.Stack) []Change {
	a, b := map[string]string{}, map[string]string{}
	flattenStack(before, a)
	flattenStack(after, b)
	var list []Change
	for path, was := range a {
		if is, still := b[path]; !still || is != was {
			list = append(list, change(path, was, is))
		}
	}
	for path, is := range b {
		if _, had := a[path]; !had {
			list = append(list, change(path, "", is))
		}
	}
	slices.SortFunc(list, func(x, y Change) int { return strings.Compare(x.Path, y.Path) })
	return list
}

func change(path, was, is string) Change {
	if strings.Contains(path, ".env.") || strings.Contains(path, ".command") || strings.Contains(path, ".entrypoint") {
		return Change{Path: path, Hidden: true}
	}
	return Change{Path: path, Before: was, After: is}
}

// flattenStack writes what a stack declares as paths and values.
func flattenStack(s *stack.Stack, into map[string]string) {
	if s == nil {
		return
	}
	for i := range s.Services {
		svc := &s.Services[i]
		at := "services." + svc.Name
		into[at] = "declared"
		var m map[string]any
		decodeJSON(svc, &m)
		delete(m, "name")
		delete(m, "revision")
		spec, _ := m["spec"].(map[string]any)
		delete(m, "spec")
		delete(spec, "env")
		for k, val := range envMap(svc.Spec.Env) {
			into[at+".env."+k] = val
		}
		flatten(at, spec, into)
		flatten(at, m, into)
	}
	var rest map[string]any
	decodeJSON(map[string]any{"networks": byKey(s.Networks, func(n stack.Network) string { return n.Key }), "volumes": byKey(s.Volumes, func(v stack.Volume) string { return v.Key })}, &rest)
	flatten("", rest, into)
}

func byKey[T any](list []T, key func(T) string) map[string]T {
	m := map[string]T{}
	for _, e := range list {
		m[key(e)] = e
	}
	return m
}

func decodeJSON(v any, into *map[string]any) {
	data, err := json.Marshal(v)
	if err == nil {
		_ = json.Unmarshal(data, into) // it was marshalled a line above
	}
}

// flatten writes a value of JSON as paths and values; lists are values.
func flatten(at string, v any, into map[string]string) {
	m, ok := v.(map[string]any)
	if !ok {
		if text, isText := v.(string); isText {
			into[at] = text
			return
		}
		data, _ := json.Marshal(v) // of plain values
		into[at] = string(data)
		return
	}
	for k, val := range m {
		flatten(strings.TrimPrefix(at+"."+k, "."), val, into)
	}
}
