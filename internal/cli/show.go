package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// printLines prints one line for each item.
func printLines[T any](w io.Writer, items []T, text func(T) string) error {
	for _, it := range items {
		if _, err := fmt.Fprintln(w, text(it)); err != nil {
			return err
		}
	}
	return nil
}

// shortID is the first 12 digits of an ID, without its algorithm.
func shortID(id string) string {
	if _, digits, ok := strings.Cut(id, ":"); ok {
		id = digits
	}
	return id[:min(len(id), 12)]
}

// ellipsis cuts s to at most width characters, the last of them "…" when something is missing.
func ellipsis(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	return string(r[:width-1]) + "…"
}

// ago says how long before now t was, as Docker does: "5 minutes ago".
func ago(t, now time.Time) string {
	return units.HumanDuration(max(0, now.Sub(t))) + " ago"
}

// joinLabels writes labels as k=v,k=v, sorted.
func joinLabels(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, k+"="+labels[k])
	}
	return strings.Join(pairs, ",")
}
