package daemon

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
)

// The sizes of what is masked, in bytes. Less would mask ordinary words.
const (
	shortestSecret = 4
	// shortestPart is the least of a part of a secret: one of its lines, or the
	// beginning of one that was cut off.
	shortestPart = 8
	// largestSecret bounds what is read of a secret.
	largestSecret = 1 << 20
)

// mask stands for a secret in an output.
const mask = "***"

// redact masks what an output holds of the stack's secrets. l.mu must not be held.
func (l *loop) redact(text string) string {
	d := l.desired()
	if text == "" || d == nil || d.Stack == nil {
		return text
	}
	return masked(text, l.secrets(d))
}

// redactHealth masks the outputs of the engine's healthchecks.
func (l *loop) redactHealth(obs *reconcile.Observed) {
	for i := range obs.Containers {
		c := &obs.Containers[i]
		c.HealthOutput = l.redact(c.HealthOutput)
	}
}

// secrets reads the secrets of a stack. One that cannot be read here has no
// content that could be told from others.
func (l *loop) secrets(d *reconcile.Desired) [][]byte {
	var out [][]byte
	for _, name := range fileNames(d) {
		if !stack.IsSecret(name) {
			continue
		}
		if data, err := l.d.contents.get(l.name, name); err == nil {
			out = append(out, data)
		}
	}
	for _, path := range d.Stack.SecretFiles {
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Size() > largestSecret {
			continue
		}
		if data, err := os.ReadFile(path); err == nil { // #nosec G304 -- the stack mounts it
			out = append(out, data)
		}
	}
	return out
}

// masked replaces by [mask] each run of bytes that belongs to a secret: all of
// it, one of its lines, or, where the text was cut off within it, its beginning.
func masked(text string, secrets [][]byte) string {
	var hit []bool // by position in text; nil: nothing was found
	mark := func(from, to int) {
		if hit == nil {
			hit = make([]bool, len(text))
		}
		for i := from; i < to; i++ {
			hit[i] = true
		}
	}
	for _, part := range parts(secrets) {
		for from := 0; ; {
			i := strings.Index(text[from:], part)
			if i < 0 {
				break
			}
			mark(from+i, from+i+len(part))
			from += i + 1 // it may overlap itself
		}
		if n := cutOff(text, part); n > 0 {
			mark(len(text)-n, len(text))
		}
	}
	return replaced(text, hit)
}

// parts are the texts by which secrets are known.
func parts(secrets [][]byte) []string {
	var out []string
	for _, s := range secrets {
		s = bytes.TrimSpace(s)
		if len(s) < shortestSecret {
			continue
		}
		out = append(out, string(s))
		for line := range bytes.Lines(s) {
			if line = bytes.TrimSpace(line); len(line) >= shortestPart && len(line) < len(s) {
				out = append(out, string(line))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// cutOff is how many bytes at a text's end are the beginning of a secret; 0 where
// they are too few to tell.
func cutOff(text, secret string) int {
	if len(secret) < shortestPart {
		return 0
	}
	for from := max(0, len(text)-len(secret)); ; {
		i := strings.Index(text[from:], secret[:shortestPart])
		if i < 0 {
			return 0
		}
		if tail := text[from+i:]; strings.HasPrefix(secret, tail) {
			return len(tail)
		}
		from += i + 1
	}
}

// replaced puts one mask in place of each run of marked bytes.
func replaced(text string, hit []bool) string {
	if hit == nil {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !hit[i]:
			b.WriteByte(text[i])
		case i == 0 || !hit[i-1]:
			b.WriteString(mask)
		}
	}
	return b.String()
}
