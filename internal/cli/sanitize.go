package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// sanitize makes text from a container, a label or the engine harmless for a
// terminal: every control character but tab is replaced by its escaped form.
func sanitize(s string) string {
	if !hasControl(s) {
		return s
	}
	return escape(s, false)
}

// sanitizeLog does the same for a line of a container's output, but lets
// complete colour sequences (SGR) pass; coloured reports whether one did, so
// that the caller ends the line with a reset.
func sanitizeLog(s string, colors bool) (text string, coloured bool) {
	if !hasControl(s) {
		return s, false
	}
	t := escape(s, colors)
	return t, colors && strings.Contains(t, "\x1b[")
}

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' && c != '\t' || c == 0x7f || c >= 0x80 {
			return true // of what is not ASCII, escape decides rune by rune
		}
	}
	return false
}

func escape(s string, colors bool) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0x1b:
			if seq := sgr(s[i:]); seq != "" {
				if colors {
					b.WriteString(seq)
				}
				n = len(seq)
				break
			}
			b.WriteString(`\x1b`)
		case r == '\t':
			b.WriteByte('\t')
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r < ' ' || r == 0x7f:
			b.WriteString(controlName(r))
		case r >= 0x80 && r < 0xa0 || bidi(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

func controlName(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	}
	return fmt.Sprintf(`\x%02x`, r)
}

// bidi reports the characters that reorder what is shown around them, and the
// line separators that some terminals obey.
func bidi(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// sgr returns the colour sequence s begins with: ESC [ digits and ; : m.
func sgr(s string) string {
	if len(s) < 3 || s[1] != '[' {
		return ""
	}
	for i := 2; i < len(s); i++ {
		switch c := s[i]; {
		case c == 'm':
			return s[:i+1]
		case c >= '0' && c <= '9' || c == ';' || c == ':':
		default:
			return ""
		}
	}
	return ""
}
