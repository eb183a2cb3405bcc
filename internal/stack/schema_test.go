package stack

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

// everyKey is the rich file without variables, tags and merges, which the
// library's validator does not understand.
func everyKey(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("testdata/rich/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := strings.NewReplacer("    <<: *common\n", "", "${TAG:-1.2}", "1", "$$", "").Replace(string(data))
	return s
}

// accepts reports whether the library's own schema check accepts a document.
func libraryAccepts(t testing.TB, text []byte) bool {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal(text, &m); err != nil {
		return false
	}
	return schema.Validate(m) == nil
}

func ourError(text []byte) error {
	l := &loading{}
	s := &source{name: "compose.yaml", content: text}
	if err := s.parse(); err != nil {
		return err
	}
	return l.validate(s)
}

// TestSchemaAgrees breaks a good file in one place at random: what the
// library's validator refuses, ours refuses too, and a file that is still good is accepted.
func TestSchemaAgrees(t *testing.T) {
	text := everyKey(t)
	if !libraryAccepts(t, []byte(text)) {
		t.Fatal("the library refuses the good file")
	}
	if err := ourError([]byte(text)); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			rt.Fatal(err)
		}
		var nodes []*yaml.Node
		collect(doc.Content[0], &nodes)
		n := nodes[rapid.IntRange(0, len(nodes)-1).Draw(rt, "node")]
		switch rapid.IntRange(0, 4).Draw(rt, "change") {
		case 0:
			*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: "7"}
		case 1:
			*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "text"}
		case 2:
			*n = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: "text"}}}
		case 3:
			*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "key"}, {Kind: yaml.ScalarNode, Tag: "!!str", Value: "text"},
			}}
		case 4:
			*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
		}
		out, err := yaml.Marshal(&doc)
		if err != nil {
			rt.Fatal(err)
		}
		ours := ourError(out)
		if accepted := libraryAccepts(t, out); !accepted && ours == nil {
			rt.Fatalf("the library refuses what we accept:\n%s", out)
		} else if accepted && ours != nil && !stricter(ours.Error()) {
			rt.Fatalf("the library accepts what we refuse: %v\n%s", ours, out)
		}
	})
}

// stricter are the checks that the library makes later, on typed values, or not at all.
func stricter(msg string) bool {
	for _, s := range []string{"is not a duration", "is not a size", "is not a number of CPUs", "is not a number of replicas", "is not a number between 0 and 1", "is not one of no, always", "is not a port", "unknown anchor", "x-berth", "contains itself"} {
		if strings.Contains(msg, s) {
			return true
		}
	}
	return false
}

// collect lists keys' values and list elements.
func collect(n *yaml.Node, out *[]*yaml.Node) {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue
		}
		*out = append(*out, c)
		collect(c, out)
	}
}

// TestPublishedSchemaIsSound compiles the schema of x-berth as any other tool
// would, and wants every $ref in it to lead somewhere.
func TestPublishedSchemaIsSound(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(berthSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("x-berth.json", doc); err != nil {
		t.Fatal(err)
	}
	for _, def := range []string{"project", "service"} {
		s, err := c.Compile("x-berth.json#/$defs/" + def)
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(map[string]any{"nonsense": true}) == nil {
			t.Errorf("%s accepts an unknown key", def)
		}
	}
}
