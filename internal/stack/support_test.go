package stack

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// typePaths lists every key the library's types have.
func typePaths() []string {
	var out []string
	extensions := reflect.TypeFor[types.Extensions]()
	var walk func(t reflect.Type, prefix string, depth int)
	walk = func(t reflect.Type, prefix string, depth int) {
		if depth > 12 {
			panic("recursive type at " + prefix)
		}
		kind := t.Kind()
		if kind == reflect.Pointer {
			walk(t.Elem(), prefix, depth)
			return
		}
		if kind == reflect.Slice || kind == reflect.Map {
			if t != extensions {
				walk(t.Elem(), prefix+".*", depth+1)
			}
			return
		}
		if kind != reflect.Struct {
			return
		}
		for i := range t.NumField() {
			f := t.Field(i)
			name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || f.Type == extensions || name == "-" {
				continue
			}
			if strings.Contains(opts, "inline") {
				walk(f.Type, prefix, depth)
				continue
			}
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			path := strings.TrimPrefix(prefix+"."+name, ".")
			out = append(out, path)
			walk(f.Type, path, depth+1)
		}
	}
	walk(reflect.TypeFor[types.Project](), "", 0)
	return append(out, "include", "version") // resolved or dropped before the types are filled
}

// extensionPaths lists the keys of the published schema of x-berth.
func extensionPaths(t *testing.T) []string {
	var doc struct {
		Defs map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(berthSchema, &doc); err != nil {
		t.Fatal(err)
	}
	var out []string
	for def, prefix := range map[string]string{"project": "x-berth.", "service": "services.*.x-berth."} {
		for k := range doc.Defs[def].Properties {
			out = append(out, prefix+k)
		}
	}
	return out
}

func TestEveryKeyIsClassified(t *testing.T) {
	table := map[string]*Support{}
	for _, s := range SupportTable() {
		if table[s.Path] != nil {
			t.Errorf("%s stands in the table twice", s.Path)
		}
		if s.Class != Carried && s.Note == "" {
			t.Errorf("%s is %s and says nothing about it", s.Path, s.Class)
		}
		table[s.Path] = &s
	}
	used := map[string]bool{}
	for _, path := range append(typePaths(), extensionPaths(t)...) {
		if table[path] != nil {
			used[path] = true
			continue
		}
		if !covered(table, path) {
			t.Errorf("%s is not classified: add it to the table in support.go", path)
		}
	}
	for path := range table {
		if !used[path] {
			t.Errorf("%s stands in the table, but no type has it any more: drop it", path)
		}
	}
}

// covered reports whether a key above is later or refused as a whole.
func covered(table map[string]*Support, path string) bool {
	parts := strings.Split(path, ".")
	for i := len(parts) - 1; i > 0; i-- {
		if s := table[strings.Join(parts[:i], ".")]; s != nil && s.Class != Carried {
			return true
		}
	}
	return false
}

// TestDeployIsCarriedOut: no key of deploy: is put off.
func TestDeployIsCarriedOut(t *testing.T) {
	for _, s := range SupportTable() {
		if s.Class == Later && strings.HasPrefix(s.Path, "services.*.deploy") {
			t.Errorf("%s is not carried out yet", s.Path)
		}
	}
}

func TestSupportPage(t *testing.T) {
	golden(t, "../../docs/compose-support.md", []byte(supportPage(SupportTable())))
}

// supportPage writes the table for readers.
func supportPage(table []Support) string {
	var b strings.Builder
	b.WriteString("# What becomes of each Compose key\n\n" +
		"This page is written by `go test ./internal/stack -update` from the table the loader itself uses.\n" +
		"A test fails when the Compose library knows a key that is not in it.\n\n" +
		"- **carried out**: works as the Compose specification says.\n" +
		"- **not yet**: a warning with file and line says so on each load; `error` means that the stack is refused meanwhile.\n" +
		"- **refused**: a warning, or an `error` where running without it would be wrong.\n\n" +
		"`*` stands for a name or for each element of a list. Keys below one that is not carried out share its fate. " +
		"Other keys that begin with `x-` are ignored, as the specification wants.\n")
	sections := []struct{ title, prefix string }{
		{"Top level", ""}, {"Services", "services.*"}, {"Networks", "networks.*"}, {"Volumes", "volumes.*"},
		{"Secrets", "secrets.*"}, {"Configs", "configs.*"}, {"x-berth", "x-berth"},
	}
	for _, sec := range sections {
		rows := slices.DeleteFunc(slices.Clone(table), func(s Support) bool { return s.derived || sectionOf(s.Path) != sec.prefix })
		slices.SortFunc(rows, func(a, b Support) int { return strings.Compare(a.Path, b.Path) })
		fmt.Fprintf(&b, "\n## %s\n\n| Key | | Note |\n|---|---|---|\n", sec.title)
		for _, s := range rows {
			class := string(s.Class)
			if s.Fatal {
				class += ", error"
			}
			if s.Note != "" {
				class += " "
			}
			fmt.Fprintf(&b, "| `%s` | %s| %s |\n", s.Path, strings.TrimRight(class, " ")+" ", s.Note)
		}
	}
	return b.String()
}

func sectionOf(path string) string {
	if strings.Contains(path, "x-berth") {
		return "x-berth"
	}
	parts := strings.SplitN(path, ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}
