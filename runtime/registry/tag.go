package registry

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What a newer tag may differ by from the one in use.
const (
	Digest = "digest" // by nothing: the same tag, whatever it names now
	Patch  = "patch"  // by all numbers but the first two
	Minor  = "minor"  // by all numbers but the first
)

// version is a tag that counts: v1.4.2-rc.1-alpine.
type version struct {
	prefix  string   // "v" or nothing
	numbers []uint64 // 1, 4, 2
	pre     string   // "rc.1"; empty: it is a release
	variant string   // "-alpine": what tells it from other builds of the same
}

var (
	counted = regexp.MustCompile(`^(v?)([0-9]{1,18}(?:\.[0-9]{1,18})+)(?:([-_.])(.*))?$`)
	// early are the words by which a pre-release is known.
	early = regexp.MustCompile(`^(?i)(?:alpha|beta|rc|cr|pre|preview|prerelease|dev|snapshot|nightly|canary|milestone|m|a|b)(?:[.]?[0-9]+)*$`)
)

// parse reads a tag; false: it does not count.
func parse(tag string) (version, bool) {
	m := counted.FindStringSubmatch(tag)
	if m == nil {
		return version{}, false
	}
	v := version{prefix: m[1]}
	for _, digits := range strings.Split(m[2], ".") {
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return version{}, false
		}
		v.numbers = append(v.numbers, n)
	}
	if m[3] == "" {
		return v, true
	}
	first, rest, more := strings.Cut(m[4], "-")
	if !early.MatchString(first) {
		v.variant = m[3] + m[4]
		return v, true
	}
	v.pre = strings.ToLower(first)
	if more {
		v.variant = "-" + rest
	}
	return v, true
}

// Newer returns the highest of tags that may follow tag by a policy; tag itself
// where none is higher, or where tag does not count.
//
// A tag follows another one when both have the same prefix ("v" or none), as many
// numbers, and the same variant ("-alpine", "-alpine3.20"), so that 1.4 is
// followed by 1.5 but not by 1.5.0. A pre-release (1.5.0-rc.1) follows only a
// pre-release. The order is that of https://semver.org/#spec-item-11, except that
// digits within a word count as a number, as rc10 is meant to follow rc9.
func Newer(tag, policy string, tags []string) string {
	current, ok := parse(tag)
	same := map[string]int{Patch: 2, Minor: 1}[policy] // how many numbers stay
	if !ok || same == 0 || len(current.numbers) <= same {
		return tag
	}
	best, at := tag, current
	for _, other := range slices.Sorted(slices.Values(tags)) {
		if v, ok := parse(other); ok && current.mayBecome(v, same) && at.compare(v) < 0 {
			best, at = other, v
		}
	}
	return best
}

// mayBecome reports whether another version is one of the same series, of which
// the first numbers are the same.
func (v version) mayBecome(o version, same int) bool {
	return v.prefix == o.prefix && v.variant == o.variant && len(v.numbers) == len(o.numbers) &&
		slices.Equal(v.numbers[:same], o.numbers[:same]) && (o.pre == "" || v.pre != "")
}

// compare orders versions of one series; a pre-release comes before its release.
func (v version) compare(o version) int {
	if c := slices.Compare(v.numbers, o.numbers); c != 0 {
		return c
	}
	if v.pre == "" || o.pre == "" {
		return cmp.Compare(min(len(o.pre), 1), min(len(v.pre), 1))
	}
	return slices.CompareFunc(runs(v.pre), runs(o.pre), compareRun)
}

var run = regexp.MustCompile(`[0-9]+|[^0-9.]+`)

// runs splits the name of a pre-release into its words and numbers.
func runs(pre string) []string { return run.FindAllString(pre, -1) }

// compareRun orders two words or numbers; a number comes before a word.
func compareRun(a, b string) int {
	x, y := strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	aNumber, bNumber := a[0] <= '9', b[0] <= '9'
	switch {
	case aNumber && bNumber:
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
	case aNumber:
		return -1
	case bNumber:
		return 1
	default:
		return strings.Compare(a, b)
	}
}
