package cli

import (
	"bufio"
	"errors"
	"io"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
)

// tone is how a cell stands out on a terminal.
type tone int

const (
	toneNone tone = iota
	toneGood
	toneBad
)

// cell is one text of a grid.
type cell struct {
	text string
	tone tone
}

// plainCells are cells that do not stand out.
func plainCells(texts ...string) []cell {
	cells := make([]cell, len(texts))
	for i, t := range texts {
		cells[i].text = t
	}
	return cells
}

// grid is a table for people: drawn on a terminal, and elsewhere columns of text.
type grid struct {
	head []string
	rows [][]cell
}

func (g *grid) add(cells ...cell) { g.rows = append(g.rows, cells) }

// printGrid prints a table. A drawn one that is wider than the terminal has the
// texts of its cells broken into lines.
func (a *app) printGrid(w io.Writer, g *grid) error {
	if !a.colored(a.env.Out) {
		return g.plain(w)
	}
	width, _ := terminalSize(a.env.Out)
	_, err := io.WriteString(w, g.drawn(width)+"\n")
	return err
}

func (g *grid) plain(w io.Writer) error {
	out := bufio.NewWriter(w)
	t := tableWriter(out)
	writeCells(t, g.head)
	for _, row := range g.rows {
		writeCells(t, texts(row))
	}
	return errors.Join(t.Flush(), out.Flush())
}

func texts(row []cell) []string {
	list := make([]string, len(row))
	for i := range row {
		list[i] = row[i].text
	}
	return list
}

// drawn is the table with a ruled head and colours; width 0 is no limit.
func (g *grid) drawn(width int) string {
	t := table.New().Headers(g.head...).
		Border(lipgloss.NormalBorder()).BorderStyle(lipgloss.NewStyle().Faint(true)).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).BorderColumn(false).
		StyleFunc(g.style)
	for _, row := range g.rows {
		clean := texts(row)
		for i := range clean {
			clean[i] = sanitize(clean[i])
		}
		t.Row(clean...)
	}
	text := t.String()
	if width > 0 && lipgloss.Width(text) > width {
		text = t.Width(width).String()
	}
	return text
}

func (g *grid) style(row, col int) lipgloss.Style {
	s := lipgloss.NewStyle().PaddingRight(2)
	if row == table.HeaderRow {
		return s.Bold(true)
	}
	switch g.rows[row][col].tone {
	case toneGood:
		return s.Foreground(lipgloss.Green)
	case toneBad:
		return s.Foreground(lipgloss.Red)
	case toneNone:
	}
	return s
}
