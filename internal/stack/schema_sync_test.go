package stack

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
)

var update = flag.Bool("update", false, "write generated and golden files anew")

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s is out of date; run go test ./internal/stack -update and look at the difference\n%s", path, firstDifference(want, got))
	}
}

func firstDifference(want, got []byte) string {
	w, g := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	for i := range max(len(w), len(g)) {
		var a, b []byte
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if !bytes.Equal(a, b) {
			return "want: " + string(a) + "\n got: " + string(b)
		}
	}
	return ""
}

// TestSchemaIsTheLibrarys keeps the embedded schema equal to compose-go's.
func TestSchemaIsTheLibrarys(t *testing.T) {
	var full any
	if err := json.Unmarshal([]byte(schema.Schema), &full); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(withoutProse(full))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "compose.schema.json", append(out, '\n'))
}

func withoutProse(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			_, isSchema := e.(map[string]any) // a property may be called "description"
			switch k {
			case "description", "deprecated", "default", "title", "$schema", "$id":
				if !isSchema {
					continue
				}
			}
			out[k] = withoutProse(e)
		}
		return out
	case []any:
		for i, e := range v {
			v[i] = withoutProse(e)
		}
	}
	return v
}
