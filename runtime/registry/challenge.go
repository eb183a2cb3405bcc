package registry

import (
	"net/http"
	"strings"
)

// challenge is what a registry says it wants to see, RFC 9110, section 11.
type challenge struct {
	scheme string // in lower case: bearer, basic
	params map[string]string
}

// challenges reads the WWW-Authenticate fields of an answer, one challenge each,
// as registries send them. What cannot be read is left out.
func challenges(h http.Header) []challenge {
	var list []challenge
	for _, field := range h.Values("WWW-Authenticate") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(field), " ")
		if scheme == "" {
			continue
		}
		list = append(list, challenge{scheme: strings.ToLower(scheme), params: params(rest)})
	}
	return list
}

// params reads name=value, name="quoted \"value\"", and so on, up to what it
// cannot read.
func params(text string) map[string]string {
	found := map[string]string{}
	for {
		text = strings.TrimLeft(text, " \t,")
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			return found
		}
		var value string
		if value, text, ok = oneValue(strings.TrimLeft(rest, " \t")); !ok {
			return found
		}
		found[strings.ToLower(strings.TrimSpace(name))] = value
	}
}

// oneValue reads one value and returns what follows it; false: it does not end.
func oneValue(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, ", \t")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], true
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
