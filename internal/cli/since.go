package cli

import (
	"fmt"
	"math/big"
	"time"
)

// parseMoment reads the moments of --since and --until, as Docker does: a
// duration before now ("42m"), seconds since 1970, or a date, in the local time
// zone where it names none. Empty is the zero time.
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
		"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02", "2006-01-02 15:04:05.999999999",
	} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if seconds, ok := new(big.Rat).SetString(text); ok {
		nanos := seconds.Mul(seconds, big.NewRat(int64(time.Second), 1))
		if whole := new(big.Int).Quo(nanos.Num(), nanos.Denom()); whole.IsInt64() {
			return time.Unix(0, whole.Int64()), nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s %q is not a moment; use a duration such as 42m, or a date such as 2013-01-02T13:23:37Z", flag, text)
}
