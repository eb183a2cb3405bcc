// Package plot draws figures over time: as text for a terminal, in braille or in
// ASCII, and as a picture in SVG. Drawing reads no clock and no terminal: equal
// charts give equal output.
package plot

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// Series is a figure over time, as a staircase: each value holds until the next.
type Series struct {
	Name   string
	At     []time.Time // ascending
	Values []float64   // one for each time, 0 or more; NaN: there is none
}

// Panel is one system of axes.
type Panel struct {
	Title  string
	Unit   string // of the values, as "%"; may be empty
	Series []Series
	Mark   float64 // a value to compare with, which gets a line of its own; 0: none
	Whole  bool    // the values are whole numbers, and so are the marks of the axis
}

// Chart is several panels below each other, over the same time.
type Chart struct {
	Title  string
	From   time.Time
	To     time.Time // after From
	Panels []Panel
}

// top is the upper end of a panel's axis: a round number that is not below any
// value.
func (p *Panel) top() float64 {
	most := p.Mark
	for i := range p.Series {
		for _, v := range p.Series[i].Values {
			if v > most && !math.IsInf(v, 0) { // not NaN either
				most = v
			}
		}
	}
	return round(most, p.Whole)
}

// round is the next of 1, 1.5, 2, 3, 4, 5, 6, 8 and 10 times a power of ten.
// Whole numbers up to ten are round.
func round(most float64, whole bool) float64 {
	if most <= 0 {
		return 1
	}
	if whole && most <= 10 {
		return math.Ceil(most)
	}
	power := math.Pow(10, math.Floor(math.Log10(most)))
	for _, step := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if most <= step*power*(1+1e-9) {
			return step * power
		}
	}
	return 10 * power
}

// text writes a value of the axis with its unit.
func (p *Panel) text(v float64) string {
	text := strconv.FormatFloat(v, 'g', 6, 64)
	if p.Unit != "" {
		text += " " + p.Unit
	}
	return text
}

// span is what a series was between two times.
type span struct {
	low, high, last float64
	some            bool // there is any value
}

// within is the lowest, the highest and the last value of a part of the time, the
// one with which it begins included.
func (s *Series) within(from, to time.Time) span {
	var out span
	first, found := slices.BinarySearchFunc(s.At, from, time.Time.Compare)
	if !found {
		first-- // holds still
	}
	for i := max(first, 0); i < len(s.At) && s.At[i].Before(to); i++ {
		v := s.Values[i]
		switch {
		case math.IsNaN(v):
			continue
		case !out.some:
			out = span{v, v, v, true}
		}
		out.low, out.high, out.last = min(out.low, v), max(out.high, v), v
	}
	return out
}

// clock is the layout in which times of a chart are told apart.
func (c *Chart) clock() string {
	switch d := c.To.Sub(c.From); {
	case d <= 10*time.Minute:
		return time.TimeOnly
	case d <= 36*time.Hour:
		return "15:04"
	default:
		return "Jan 2 15:04"
	}
}

// part is the time after so many of the n equal parts of the chart.
func (c *Chart) part(i, n int) time.Time {
	return c.From.Add(time.Duration(float64(c.To.Sub(c.From)) * float64(i) / float64(n)))
}
