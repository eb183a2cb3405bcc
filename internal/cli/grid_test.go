package cli

import (
	"strings"
	"testing"

	"charm.land/lipgloss/v2"
)

func TestDrawnGridFitsTheTerminal(t *testing.T) {
	g := &grid{head: []string{"NODE", "FILTER", "WHY NOT"}}
	g.add(cell{text: "edge-1"}, cell{text: "resources"}, cell{"insufficient memory (needs 128M, 64M free)", toneBad})
	g.add(cell{text: "edge-2\x1b[2J"}, cell{text: "taints"}, cell{"taint dedicated=db", toneGood})
	for _, width := range []int{40, 60, 200} {
		text := g.drawn(width)
		for _, line := range strings.Split(text, "\n") {
			if w := lipgloss.Width(line); w > width {
				t.Errorf("a line is %d wide on a terminal of %d: %q", w, width, line)
			}
		}
		if strings.Contains(text, "\x1b[2J") {
			t.Errorf("a control sequence passes: %q", text)
		}
	}
	if wide := g.drawn(200); wide != g.drawn(0) || strings.Count(wide, "\n") != 3 {
		t.Errorf("a table that fits is drawn otherwise: %q", wide)
	}
}
