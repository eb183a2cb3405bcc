package plot

import (
	"math"
	"strings"
	"unicode/utf8"
)

// Bounds of a chart as text, in columns and rows.
const (
	leastWidth = 20
	textRows   = 6 // of each panel
	leastPlot  = 8 // columns of the plot itself
)

// Text draws the chart so many columns wide, at least 20; in ASCII only, where
// braille cannot be shown. Series of one panel stand below each other, for they
// could not be told apart.
func (c *Chart) Text(width int, ascii bool) string {
	width = max(width, leastWidth)
	var list []Panel
	for i := range c.Panels {
		list = append(list, c.Panels[i].apart()...)
	}
	label := 0
	for i := range list {
		for _, text := range list[i].labels(textRows) {
			label = max(label, utf8.RuneCountInString(text))
		}
	}
	d := drawing{chart: c, label: label, columns: max(width-label-3, leastPlot), ascii: ascii}
	for i := range list {
		d.panel(&list[i])
	}
	d.times()
	return d.out.String()
}

// apart is a panel for each series, all of the same scale.
func (p *Panel) apart() []Panel {
	if len(p.Series) <= 1 {
		return []Panel{*p}
	}
	var list []Panel
	for i := range p.Series {
		one := *p
		one.Title, one.Series = p.Series[i].Name, p.Series[i:i+1]
		one.Mark = max(one.Mark, 0)
		list = append(list, one)
	}
	return list
}

// labels are the texts of the axis by row, from the top.
func (p *Panel) labels(rows int) []string {
	list := make([]string, rows)
	list[0], list[rows-1] = p.text(p.top()), p.text(0)
	if p.Mark > 0 {
		if row := p.row(p.Mark, rows); list[row] == "" {
			list[row] = p.text(p.Mark)
		}
	}
	return list
}

// row is where a value stands, from the top.
func (p *Panel) row(v float64, rows int) int {
	return min(max(int(math.Round((1-v/p.top())*float64(rows-1))), 0), rows-1)
}

// drawing is a chart on its way to text.
type drawing struct {
	out     strings.Builder
	chart   *Chart
	label   int // width of the labels
	columns int // of the plot
	ascii   bool
}

func (d *drawing) panel(p *Panel) {
	d.out.WriteString(p.Title + "\n")
	labels := p.labels(textRows)
	axis, tick := "│", "┤"
	if d.ascii {
		axis, tick = "|", "+"
	}
	for row, line := range d.lines(p) {
		at := axis
		if labels[row] != "" {
			at = tick
		}
		text := strings.Repeat(" ", d.label-utf8.RuneCountInString(labels[row])) + labels[row] + " " + at
		d.out.WriteString(text + strings.TrimRight(line, " ") + "\n")
	}
}

// lines are the rows of a panel, without the axis.
func (d *drawing) lines(p *Panel) []string {
	if d.ascii {
		return d.stars(p)
	}
	return d.braille(p)
}

// stars draws with one point a column and row.
func (d *drawing) stars(p *Panel) []string {
	cells := d.empty(p, '-')
	for x, s := range p.course(d.chart, d.columns) {
		if !s.some {
			continue
		}
		for y := p.row(s.high, textRows); y <= p.row(s.low, textRows); y++ {
			cells[y][x] = '*'
		}
	}
	return joined(cells)
}

// course is what the panel's series was in each of n equal parts of the time,
// with the way there from the part before.
func (p *Panel) course(c *Chart, n int) []span {
	spans := make([]span, n)
	for i := range spans {
		if len(p.Series) == 0 {
			break
		}
		s := p.Series[0].within(c.part(i, n), c.part(i+1, n))
		if i > 0 && spans[i-1].some && s.some {
			s.low, s.high = min(s.low, spans[i-1].last), max(s.high, spans[i-1].last)
		}
		spans[i] = s
	}
	return spans
}

// empty is a panel without its series, with the line of its mark.
func (d *drawing) empty(p *Panel, mark rune) [][]rune {
	cells := make([][]rune, textRows)
	for y := range cells {
		cells[y] = []rune(strings.Repeat(" ", d.columns))
		if p.Mark > 0 && y == p.row(p.Mark, textRows) {
			cells[y] = []rune(strings.Repeat(string(mark), d.columns))
		}
	}
	return cells
}

func joined(cells [][]rune) []string {
	list := make([]string, len(cells))
	for i := range cells {
		list[i] = string(cells[i])
	}
	return list
}

// A braille character has two columns and four rows of dots.
const (
	dotsAcross = 2
	dotsDown   = 4
	braille    = '⠀' // without any dot
)

// dots are the bits of a braille character, by column and row.
var dots = [dotsAcross][dotsDown]rune{{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}}

// braille draws with eight points a character.
func (d *drawing) braille(p *Panel) []string {
	cells := d.empty(p, '┈')
	for x, s := range p.course(d.chart, d.columns*dotsAcross) {
		if !s.some {
			continue
		}
		rows := textRows * dotsDown
		for y := p.row(s.high, rows); y <= p.row(s.low, rows); y++ {
			cell := &cells[y/dotsDown][x/dotsAcross]
			if *cell < braille || *cell > braille+0xff {
				*cell = braille
			}
			*cell |= dots[x%dotsAcross][y%dotsDown]
		}
	}
	return joined(cells)
}

// times writes the axis of time below the last panel.
func (d *drawing) times() {
	corner, line := "└", "─"
	if d.ascii {
		corner, line = "+", "-"
	}
	indent := strings.Repeat(" ", d.label+1)
	d.out.WriteString(indent + corner + strings.Repeat(line, d.columns) + "\n")
	first, last := d.chart.From.Format(d.chart.clock()), d.chart.To.Format(d.chart.clock())
	gap := d.columns + 1 - len(first) - len(last)
	if gap < 1 {
		last, gap = "", 0
	}
	middle := d.chart.part(1, 2).Format(d.chart.clock())
	if left := (d.columns+1-len(middle))/2 - len(first); left > 1 && gap-left-len(middle) > 1 {
		last, gap = strings.Repeat(" ", left)+middle+strings.Repeat(" ", gap-left-len(middle))+last, 0
	}
	d.out.WriteString(indent + first + strings.Repeat(" ", gap) + last + "\n")
}
