package scaling

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Reason is what a stage of a decision did.
type Reason string

// The reasons, named as in Kubernetes where it has them. Every decision ends
// with one of the last eight.
const (
	RaisedByForecast    Reason = "RaisedByForecast"    // more is expected to be needed soon than the metrics ask for
	ScaleUpStabilized   Reason = "ScaleUpStabilized"   // a recommendation of the up window is lower
	ScaleDownStabilized Reason = "ScaleDownStabilized" // a recommendation of the down window is higher

	ScaleUpLimit       Reason = "ScaleUpLimit"   // grows faster than the limits allow
	ScaleDownLimit     Reason = "ScaleDownLimit" // shrinks faster than the limits allow
	TooManyReplicas    Reason = "TooManyReplicas"
	TooFewReplicas     Reason = "TooFewReplicas"
	DesiredWithinRange Reason = "DesiredWithinRange"
	ScalingDisabled    Reason = "ScalingDisabled" // the service was scaled to 0 by hand
	MetricsInvalid     Reason = "MetricsInvalid"  // too little is known to change anything
	NumberFixed        Reason = "NumberFixed"     // the policy leaves no choice
)

// Decision is how many replicas a service is to have, and why. Proposed,
// Stabilized and Desired are the number after each stage.
type Decision struct {
	At      time.Time `json:"at"`
	Next    time.Time `json:"next"` // when to decide again
	Current int       `json:"current"`
	Min     int       `json:"min"`
	Max     int       `json:"max"`

	// Proposals has one entry per metric of the policy, in its order. It is empty
	// where no metric was asked.
	Proposals  []Proposal `json:"proposals,omitempty"`
	Metric     string     `json:"metric,omitempty"` // whose proposal is the largest; empty: none, or the forecast is larger
	Proposed   int        `json:"proposed"`
	Stabilized int        `json:"stabilized"`
	Limit      int        `json:"limit,omitempty"` // the number that the limits of the behavior allow now, where it would change
	Desired    int        `json:"desired"`
	Reasons    []Reason   `json:"reasons"`
}

func (d *Decision) because(r Reason) { d.Reasons = append(d.Reasons, r) }

// all ends a decision that needs no stages.
func (d *Decision) all(n int, r Reason) {
	d.Proposed, d.Stabilized, d.Desired = n, n, n
	d.because(r)
}

// Need is how many replicas the metrics would ask for if there were parts of one
// and no tolerance: what a forecast is made of. It reports false where a metric
// tells nothing.
func (d Decision) Need() (float64, bool) {
	need := 0.0
	for _, p := range d.Proposals {
		if p.Invalid != "" {
			return 0, false
		}
		need = max(need, p.Need)
	}
	return need, len(d.Proposals) > 0
}

// String is the decision in a sentence.
func (d Decision) String() string {
	var b strings.Builder
	if d.Desired == d.Current {
		fmt.Fprintf(&b, "keep %d", d.Current)
	} else {
		fmt.Fprintf(&b, "%d to %d", d.Current, d.Desired)
	}
	sep := ": "
	for _, p := range d.Proposals {
		if p.Invalid != "" || p.Metric == d.Metric {
			b.WriteString(sep + p.String())
			sep = "; "
		}
	}
	for _, r := range d.Reasons {
		if text := d.text(r); text != "" {
			b.WriteString(sep + text)
			sep = "; "
		}
	}
	return b.String()
}

func (d *Decision) text(r Reason) string {
	switch r {
	case RaisedByForecast:
		return fmt.Sprintf("%d are expected to be needed", d.Proposed)
	case ScaleUpStabilized:
		return fmt.Sprintf("less was asked for within the up window, so %d", d.Stabilized)
	case ScaleDownStabilized:
		return fmt.Sprintf("more was asked for within the down window, so %d", d.Stabilized)
	case ScaleUpLimit:
		return fmt.Sprintf("the limits of growth allow %d now", d.Limit)
	case ScaleDownLimit:
		return fmt.Sprintf("the limits of shrinking allow %d now", d.Limit)
	case TooManyReplicas:
		return fmt.Sprintf("the maximum is %d", d.Max)
	case TooFewReplicas:
		return fmt.Sprintf("the minimum is %d", d.Min)
	case ScalingDisabled:
		return fmt.Sprintf("scaled to 0 although the minimum is %d, which turns autoscaling off: scale to %[1]d or more to turn it on", d.Min)
	case NumberFixed:
		return "the number is fixed"
	case MetricsInvalid:
		return "nothing changes while that is not known"
	default:
		return ""
	}
}

// String is what the metric asks for in a few words.
func (p Proposal) String() string {
	if p.Invalid != "" {
		return p.Metric + " tells nothing: " + p.Invalid
	}
	var b strings.Builder
	of := ""
	if p.Percent {
		of = " of the reservation"
	}
	now, target := p.Texts()
	fmt.Fprintf(&b, "%s is at %s%s, target %s", p.Metric, now, of, target)
	if p.Source != FromExternal {
		fmt.Fprintf(&b, ", over %d measured", p.Ready)
		if p.Missing > 0 {
			fmt.Fprintf(&b, ", %d without a value", p.Missing)
		}
		if p.Unready > 0 {
			fmt.Fprintf(&b, ", %d unready", p.Unready)
		}
	}
	if p.Kept != "" {
		b.WriteString(", " + string(p.Kept))
	} else {
		fmt.Fprintf(&b, ", asks for %d", p.Replicas)
	}
	return b.String()
}

// Texts are Now and Target with their units, as "93 %", "250m", "64MiB" or "1.5".
func (p Proposal) Texts() (now, target string) {
	if p.Percent {
		return fmt.Sprintf("%d %%", p.Now), fmt.Sprintf("%d %%", p.Target)
	}
	return p.quantity(p.Now), p.quantity(p.Target)
}

// quantity writes millicores as "250m", bytes as "64MiB", and thousandths as
// a decimal number.
func (p *Proposal) quantity(v int64) string {
	switch {
	case p.Source == FromResource && p.Metric == Memory:
		return mebibytes(v)
	case p.Source == FromResource:
		return strconv.FormatInt(v, 10) + "m"
	default:
		return strconv.FormatFloat(float64(v)/1000, 'f', -1, 64)
	}
}

func mebibytes(v int64) string {
	if v >= 1<<20 {
		return strconv.FormatFloat(math.Round(float64(v)*10/(1<<20))/10, 'f', -1, 64) + "MiB"
	}
	return strconv.FormatInt(v, 10) + "B"
}
