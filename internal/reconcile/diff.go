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
