package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
)

// printService prints what the replicas of a service have in common: how their
// rollout stands, where they are published, and what the balancer carries to them.
func (a *app) printService(w io.Writer, s *api.ExplainedService, now time.Time) error {
	row := newRolloutRow(&s.Rollout)
	_, _ = fmt.Fprintln(w, sanitize("service "+row.Service)) // the caller's Flush reports errors
	line := func(name, text string) { _, _ = fmt.Fprintf(w, "  %-10s %s\n", name+":", sanitize(text)) }
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		line("label", key+"="+s.Labels[key])
	}
	line("rollout", rolloutLine(&row, now))
	for _, note := range row.notes(now) {
		line("rollout", note)
	}
	for i := range s.Published {
		line("published", publishedLine(&s.Published[i]))
	}
	if t := s.Traffic; t != nil {
		line("balancer", balancerLine(t))
		line("traffic", trafficLine(t))
		if len(t.Backends) > 0 {
			_, _ = fmt.Fprintln(w)
			if err := a.printGrid(w, backendGrid(t.Backends, now)); err != nil {
				return err
			}
		}
	}
	if s.Scaling != nil {
		if s.Traffic != nil && len(s.Traffic.Backends) > 0 {
			_, _ = fmt.Fprintln(w)
		}
		if err := a.printScaling(w, s.Scaling, now); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintln(w)
	return nil
}

// rolloutLine is a rollout in one line: "updating to 3f2a9c01d2e4, 1/3 replaced".
func rolloutLine(r *rolloutRow, now time.Time) string {
	if r.Began.IsZero() {
		return r.State + ", revision " + shortID(r.Revision)
	}
	text := fmt.Sprintf("%s, revision %s, %s replaced", r.State, shortID(r.Revision), r.replacedText())
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d failed", r.Failed)
	}
	return text + ", last progress " + moment(r.Progress, now)
}

// publishedLine says where a port is published, or why it is not.
func publishedLine(p *api.Published) string {
	if len(p.Bound) == 0 {
		text := fmt.Sprintf("port %s/%s is not listened at", addressText(p), p.Protocol)
		if p.Reason != "" {
			text += ": " + p.Reason
		}
		if p.Holder != "" {
			text += "; " + p.Holder + " holds it"
		}
		return text
	}
	text := portsText(p.Bound) + " by the balancer, " + strconv.Itoa(p.Open) + " open"
	if p.Full {
		text += ", which is the limit"
	}
	return text
}

// addressText is where a port is asked to be published.
func addressText(p *api.Published) string {
	port := strconv.Itoa(int(p.Port))
	switch {
	case p.Host == "":
		return port
	case strings.Contains(p.Host, ":"):
		return "[" + p.Host + "]:" + port
	}
	return p.Host + ":" + port
}

// balancerLine says how connections are given to containers, and who waits.
func balancerLine(t *api.Traffic) string {
	text := fmt.Sprintf("%s over %s, %d open", t.Policy, containersText(t.Routed), t.Open)
	if t.Routed == 0 {
		text = fmt.Sprintf("%s, no container takes connections, %d open", t.Policy, t.Open)
	}
	if t.Waiting > 0 {
		text += fmt.Sprintf(", %d waiting for a container", t.Waiting)
	}
	return text
}

func containersText(n int) string {
	if n == 1 {
		return "1 container"
	}
	return fmt.Sprintf("%d containers", n)
}

// trafficLine sums up what the balancer has done since the daemon began.
func trafficLine(t *api.Traffic) string {
	parts := []string{
		fmt.Sprintf("%d connections", t.Connections), fmt.Sprintf("%d failed connects", t.FailedConnects),
		fmt.Sprintf("%d retried", t.Retries), fmt.Sprintf("%d held", t.Held),
	}
	for _, why := range slices.Sorted(maps.Keys(t.Refused)) {
		parts = append(parts, fmt.Sprintf("%d refused (%s)", t.Refused[why], why))
	}
	parts = append(parts, humanBytes(int64(min(t.BytesIn, 1<<62)))+" in", humanBytes(int64(min(t.BytesOut, 1<<62)))+" out")
	if t.ConnectP99 > 0 {
		parts = append(parts, fmt.Sprintf("connect p50 %s p99 %s", shortDuration(t.ConnectP50), shortDuration(t.ConnectP99)))
	}
	return strings.Join(parts, ", ")
}

// shortDuration rounds what was estimated anyhow.
func shortDuration(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}

// backendGrid is a line for each container that has connections, or may get some.
func backendGrid(list []api.Backend, now time.Time) *grid {
	g := &grid{head: []string{"CONTAINER", "ROUTED", "OPEN", "CONNECTIONS", "FAILED", "IN", "OUT", "P50", "P99"}}
	for i := range list {
		b := &list[i]
		row := plainCells(
			shortContainer(b), "", strconv.Itoa(b.Open), strconv.FormatUint(b.Connections, 10), strconv.FormatUint(b.FailedConnects, 10),
			humanBytes(int64(min(b.BytesIn, 1<<62))), humanBytes(int64(min(b.BytesOut, 1<<62))), "-", "-",
		)
		row[1] = routedCell(b, now)
		if b.ConnectP99 > 0 {
			row[7].text, row[8].text = shortDuration(b.ConnectP50), shortDuration(b.ConnectP99)
		}
		g.add(row...)
	}
	return g
}

// shortContainer is a container's name, or the beginning of its ID when it is gone.
func shortContainer(b *api.Backend) string {
	if b.Slot == 0 {
		return shortID(b.Container)
	}
	return b.Container
}

// routedCell says whether a container takes new connections.
func routedCell(b *api.Backend, now time.Time) cell {
	switch {
	case b.Routed && b.AvoidedUntil.After(now):
		return cell{fmt.Sprintf("avoided until %s (%d failed)", moment(b.AvoidedUntil, now), b.Failures), toneBad}
	case b.Routed:
		return cell{"yes", toneGood}
	case b.Since.IsZero():
		return cell{text: "no"}
	}
	return cell{text: "no, since " + moment(b.Since, now)}
}
