package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// Sizes of a picture, in pixels.
const (
	pictureWidth = 860
	left, right  = 84, 24  // of the plot
	head         = 34      // above the first panel
	panelHeight  = 170     // of a plot
	panelGap     = 52      // below a plot, for the title of the next
	foot         = 44      // below the last
	ticksX       = 6       // parts of the time
	maxPoints    = 2 * 776 // of a line: more than two a pixel cannot be seen
)

// style follows the light or dark scheme of whoever looks at it.
const style = `
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.axis { stroke: #8c959f; fill: none; }
.grid { stroke: #d0d7de; stroke-width: .5; fill: none; }
.mark { stroke: #cf222e; stroke-dasharray: 5 4; fill: none; }
.line { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
.s0 { stroke: #0969da; } .s1 { stroke: #bc4c00; } .s2 { stroke: #1a7f37; }
.back { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.axis { stroke: #7d8590; } .grid { stroke: #30363d; } .mark { stroke: #ff7b72; }
.s0 { stroke: #58a6ff; } .s1 { stroke: #f0883e; } .s2 { stroke: #3fb950; }
.back { fill: #0d1117; }
}
`

// colors is how many lines of one panel look different.
const colors = 3

// WriteSVG writes the chart as a picture of its own.
func (c *Chart) WriteSVG(w io.Writer) error {
	var p picture
	height := head + len(c.Panels)*(panelHeight+panelGap) + foot - panelGap/2
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`, pictureWidth, height)
	p.add(`<title>%s</title>`, escaped(c.Title))
	p.add("<style>%s</style>", style)
	p.add(`<rect class="back" width="100%%" height="100%%"/>`)
	p.add(`<text class="title" x="%d" y="20">%s</text>`, left, escaped(c.Title))
	for i := range c.Panels {
		p.panel(c, &c.Panels[i], head+panelGap/2+i*(panelHeight+panelGap))
	}
	p.add("</svg>")
	_, err := w.Write(p.b.Bytes())
	return err
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}

// picture is one on its way to be written.
type picture struct{ b bytes.Buffer }

func (p *picture) add(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// panel draws one whose plot begins so far from the top.
func (p *picture) panel(c *Chart, panel *Panel, top int) {
	p.add(`<text x="%d" y="%d">%s</text>`, left, top-10, escaped(panel.Title))
	p.legend(panel, top-10)
	for _, v := range panel.ticks() {
		y := panel.y(v, top)
		p.add(`<path class="grid" d="M%d %.1fH%d"/>`, left, y, pictureWidth-right)
		p.add(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-8, y+4, escaped(panel.text(v)))
	}
	for i := range ticksX + 1 {
		x := float64(left) + float64(i)*(pictureWidth-left-right)/ticksX
		p.add(`<path class="axis" d="M%.1f %dv5"/>`, x, top+panelHeight)
		p.add(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x, top+panelHeight+18, c.part(i, ticksX).Format(c.clock()))
	}
	p.add(`<path class="axis" d="M%d %dV%dH%d"/>`, left, top, top+panelHeight, pictureWidth-right)
	if panel.Mark > 0 {
		p.add(`<path class="mark" d="M%d %.1fH%d"/>`, left, panel.y(panel.Mark, top), pictureWidth-right)
	}
	for i := range panel.Series {
		p.add(`<path class="line s%d" d="%s"/>`, i%colors, panel.path(c, &panel.Series[i], top))
	}
}

// legend names the lines of a panel at its right.
func (p *picture) legend(panel *Panel, y int) {
	x := pictureWidth - right
	for i := len(panel.Series) - 1; i >= 0; i-- {
		name := panel.Series[i].Name
		p.add(`<text x="%d" y="%d" text-anchor="end">%s</text>`, x, y, escaped(name))
		x -= 8 + 7*len([]rune(name))
		p.add(`<path class="line s%d" d="M%d %dh18"/>`, i%colors, x-18, y-4)
		x -= 34
	}
}

// ticks are the values that the axis names.
func (p *Panel) ticks() []float64 {
	top := p.top()
	n := 4.0
	if p.Whole {
		n = top
		for n > 5 {
			n = math.Ceil(n / 2)
		}
		if math.Mod(top, n) != 0 {
			n = 1
		}
	}
	var list []float64
	for i := 0.0; i <= n; i++ {
		list = append(list, top*i/n)
	}
	return list
}

// y is where a value stands, from the top of the picture.
func (p *Panel) y(v float64, top int) float64 {
	return float64(top) + panelHeight*(1-min(v, p.top())/p.top())
}

// path is a series as a staircase, interrupted where there is no value.
func (p *Panel) path(c *Chart, s *Series, top int) string {
	var b strings.Builder
	var pen span // as it was last
	for i := range maxPoints {
		in := s.within(c.part(i, maxPoints), c.part(i+1, maxPoints))
		x := left + float64(i)*(pictureWidth-left-right)/maxPoints
		switch {
		case !in.some && pen.some:
			fmt.Fprintf(&b, "H%.1f", x)
		case !in.some:
		case !pen.some:
			fmt.Fprintf(&b, "M%.1f %.1f", x, p.y(in.last, top))
		default:
			p.step(&b, x, pen.last, in, top)
		}
		pen = in
	}
	if pen.some {
		fmt.Fprintf(&b, "H%d", pictureWidth-right)
	}
	return b.String()
}

// step goes on to what the series was next, by way of what it was in between.
func (p *Panel) step(b *strings.Builder, x, before float64, in span, top int) {
	if in.low == before && in.high == before {
		return
	}
	fmt.Fprintf(b, "H%.1f", x)
	for _, v := range []float64{in.high, in.low, in.last} {
		if v != before {
			fmt.Fprintf(b, "V%.1f", p.y(v, top))
			before = v
		}
	}
}
