package stack

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/berth-dev/berth/scheduler"
)

// failure makes an error about the value at a path, with file and line.
type failure func(err error, path ...string) error

// setting is one value of x-berth, merged and interpolated, that fits its
// schema. A setting that is not given has no value and no parts.
type setting struct {
	value   any
	path    []string
	failure failure
}

// newSetting checks a value against a definition of the schema of x-berth. The
// files have been checked as they stand; what variables and merging have made
// of them has not.
func newSetting(value any, def string, failure failure, path ...string) (setting, error) {
	s := setting{value: value, path: path, failure: failure}
	if value == nil {
		return s, nil
	}
	root, err := berthRules()
	if err != nil {
		return s, err
	}
	var n yaml.Node
	if err := n.Encode(value); err != nil {
		return s, s.fail("is not a value of YAML")
	}
	v := validator{source: &source{}, root: root, settled: true, lenient: true}
	if e := v.value(root.defs[def], &n, path); e != nil {
		return s, failure(errors.New(e.msg), e.path...)
	}
	return s, nil
}

func (s setting) fail(format string, args ...any) error {
	return s.failure(fmt.Errorf(format, args...), s.path...)
}

func (s setting) given() bool { return s.value != nil }

func (s setting) at(key string, value any) setting {
	return setting{value: value, path: append(slices.Clone(s.path), key), failure: s.failure}
}

// get is the part under a key.
func (s setting) get(key string) setting {
	m, _ := s.value.(map[string]any)
	return s.at(key, m[key])
}

// parts are all parts of a mapping, by key.
func (s setting) parts() []setting {
	m, _ := s.value.(map[string]any)
	out := make([]setting, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, s.at(k, m[k]))
	}
	return out
}

// key is the last element of the setting's path.
func (s setting) key() string { return s.path[len(s.path)-1] }

// list are the elements of a list.
func (s setting) list() []setting {
	l, _ := s.value.([]any)
	out := make([]setting, len(l))
	for i, v := range l {
		out[i] = s.at(strconv.Itoa(i), v)
	}
	return out
}

// isText reports whether the setting is a scalar, not a mapping or list.
func (s setting) isText() bool {
	switch s.value.(type) {
	case nil, map[string]any, []any:
		return false
	}
	return true
}

// text is a scalar as text.
func (s setting) text() string {
	if f, ok := s.value.(float64); ok {
		return plain(f)
	}
	if !s.isText() {
		return ""
	}
	return fmt.Sprint(s.value)
}

// texts are the scalars of a list as text.
func (s setting) texts() []string {
	var out []string
	for _, e := range s.list() {
		out = append(out, e.text())
	}
	return out
}

// integer is a whole number, or the default where it is not given.
func (s setting) integer(unset int) (int, error) {
	if !s.given() {
		return unset, nil
	}
	n, err := strconv.Atoi(s.text())
	if err != nil {
		return 0, s.fail("%q is not a whole number", clip(s.text()))
	}
	return n, nil
}

// duration is a length of time; 0 where it is not given.
func (s setting) duration() (time.Duration, error) {
	if !s.given() {
		return 0, nil
	}
	var d types.Duration
	if d.DecodeMapstructure(s.text()) != nil || d < 0 {
		return 0, s.fail("%q is not a duration such as 30s or 1m30s", clip(s.text()))
	}
	return time.Duration(d), nil
}

// flag is a boolean; false where it is not given.
func (s setting) flag() bool { return s.text() == "true" }

// labels are a mapping of labels, each of which can be one.
func (s setting) labels() (map[string]string, error) {
	var out map[string]string
	for _, l := range s.parts() {
		value := l.text()
		if err := checkLabel(l.key(), value); err != nil {
			return nil, l.fail("%w", err)
		}
		if len(value) > maxName {
			return nil, l.fail("the value is longer than %d bytes", maxName)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[l.key()] = value
	}
	return out, nil
}

// amount reads how much there is, or is asked, of a resource, as
// [parseAmount] does; 0 where it is not given.
func (s setting) amount(resource string) (int64, error) {
	if !s.given() {
		return 0, nil
	}
	n, err := parseAmount(resource, s.text())
	if err != nil {
		return 0, s.fail("%w", err)
	}
	return n, nil
}

// parseAmount reads a positive amount of a resource, in the unit that
// [scheduler.Resources] counts it in and up to what the scheduler counts.
func parseAmount(resource, text string) (int64, error) {
	var n int64
	var err error
	most := int64(scheduler.MaxAmount)
	switch resource {
	case scheduler.CPU:
		n, err = parseCores(text)
		most = scheduler.MaxCPU
	case scheduler.Network:
		n, err = parseBits(text)
	case scheduler.Memory, scheduler.Disk:
		n, err = parseBytes(text)
	default:
		n, err = parsePieces(text)
	}
	switch {
	case err != nil:
		return 0, err
	case n <= 0:
		return 0, fmt.Errorf("is %s; it must be more than nothing, or left out", clip(text))
	case n > most:
		return 0, fmt.Errorf("is %s, more than the %s that can be counted", clip(text), scheduler.FormatAmount(resource, most))
	}
	return n, nil
}

// parseCores reads CPUs such as 0.5 into millicores, rounded to the nearest.
func parseCores(text string) (int64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 0 && f <= scheduler.MaxCPU/1000) {
		return 0, fmt.Errorf("%q is not a number of CPUs such as 0.5", clip(text))
	}
	n := int64(f*1000 + 0.5)
	if n == 0 && f > 0 {
		return 0, fmt.Errorf("is %s; CPUs are counted in steps of 0.001", clip(text))
	}
	return n, nil
}

// parseBytes reads a size such as 256M, in units of 1024.
func parseBytes(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	var b types.UnitBytes
	if err := b.DecodeMapstructure(text); err != nil || b < 0 {
		return 0, fmt.Errorf("%q is not a size such as 512M or 1.5g", clip(text))
	}
	return int64(b), nil
}

func parsePieces(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number of pieces", clip(text))
	}
	return n, nil
}

// parseBits reads bits per second such as 100M or 2.5Gbit, in units of 1000.
// The unit's case does not matter, as there is no milli.
func parseBits(text string) (int64, error) {
	bad := fmt.Errorf("%q is not a rate in bits per second such as 100M or 2.5G", clip(text))
	s := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text)), "bit")
	unit := int64(1)
	if s != "" {
		if i := strings.IndexByte("kmgt", s[len(s)-1]); i >= 0 {
			s = s[:len(s)-1]
			for range i + 1 {
				unit *= 1000
			}
		}
	}
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && unit == 1 {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= scheduler.MaxAmount/float64(unit)) {
		return 0, bad
	}
	return int64(f*float64(unit) + 0.5), nil
}
