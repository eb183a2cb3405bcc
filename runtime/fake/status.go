package fake

import (
	"fmt"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// statusLine is what the Docker Engine's list says of a container to people.
func statusLine(c *runtime.Container, now time.Time) string {
	switch c.State {
	case runtime.Running, runtime.Paused:
		line := "Up " + roughly(c.Uptime(now))
		switch {
		case c.State == runtime.Paused:
			line += " (Paused)"
		case c.Health == runtime.HealthStarting:
			line += " (health: starting)"
		case c.Health != runtime.HealthNone:
			line += " (" + string(c.Health) + ")"
		}
		return line
	case runtime.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.ExitCode, roughly(now.Sub(c.Finished)))
	case runtime.Exited:
		return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, roughly(now.Sub(c.Finished)))
	case runtime.Created:
		return "Created"
	case runtime.Removing:
		return "Removal In Progress"
	case runtime.Dead:
		return "Dead"
	case runtime.Removed:
	}
	return ""
}

// roughly is a duration in words.
func roughly(d time.Duration) string {
	units := []struct {
		length time.Duration
		word   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}}
	for _, u := range units {
		switch n := int(d / u.length); {
		case n == 1:
			return "1 " + u.word
		case n > 1:
			return fmt.Sprintf("%d %ss", n, u.word)
		}
	}
	return "Less than a second"
}
