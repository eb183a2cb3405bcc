package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
)

// healthOf tells what the probes of a replica have found, by which way, and how
// often it was restarted.
func healthOf(e *api.Explanation) [][2]string {
	var lines [][2]string
	if e.Probes != nil {
		for _, role := range health.Roles() {
			if text := trackText(e.Probes.Of(role)); text != "" {
				lines = append(lines, [2]string{string(role), text + routeText(e.Routes[role])})
			}
		}
	}
	if text := restartsText(e); text != "" {
		lines = append(lines, [2]string{"restarts", text})
	}
	return lines
}

// trackText says how one probe stands; empty when the replica has none of the role.
func trackText(t health.Track) string {
	if t.State == health.Unknown && len(t.Results) == 0 && t.Error == "" && t.Due.IsZero() {
		return ""
	}
	state := map[health.Outcome]string{health.Success: "passes", health.Failure: "fails", health.Unknown: "has not decided yet"}[t.State]
	if !t.Since.IsZero() {
		state += " since " + t.Since.Local().Format(time.TimeOnly)
	}
	var results []string
	for _, r := range t.Results {
		results = append(results, resultText(r))
	}
	if len(results) > 0 {
		state += "; last: " + strings.Join(results, ", ")
	}
	if t.Held != "" {
		state += "; not acted on: " + t.Held
	}
	if t.Error != "" {
		state += "; no result: " + t.Error
	}
	return state
}

func resultText(r health.Result) string {
	text := "ok"
	if r.Outcome != health.Success {
		text = "failed"
		if r.Output != "" {
			text += " (" + r.Output + ")"
		}
	}
	return fmt.Sprintf("%s %s", text, r.Took.Round(100*time.Microsecond))
}

func routeText(r health.Route) string {
	if r.Way == "" {
		if r.Reason == "" {
			return ""
		}
		return "; no way to it: " + r.Reason
	}
	text := "; asked by " + string(r.Way)
	if r.Address != "" {
		text += " at " + r.Address
	}
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	return text
}

// restartsText counts the restarts by Berth, and says when the next would come.
func restartsText(e *api.Explanation) string {
	if e.Restarts == 0 {
		return ""
	}
	text := fmt.Sprintf("%d by Berth", e.Restarts)
	if b := e.Backoff; b.Restarts > 0 {
		wait := b.Wait(b.Last, 0)
		text += fmt.Sprintf(", the last at %s; if it ends again soon, the next waits %s", b.Last.Local().Format(time.TimeOnly), wait)
	}
	return text
}
