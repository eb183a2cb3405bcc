package simulate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/berth-dev/berth/scaling"
)

// maxRows bounds a trace.
const maxRows = 1_000_000

// Trace is what a whole service was asked to do over time.
type Trace struct {
	Metrics []string
	Rows    []Row
}

// Row is how it was from a time until that of the next row.
type Row struct {
	At time.Time
	// Values are by metric of the trace: millicores of cpu, bytes of memory and
	// thousandths of anything else, over all replicas; none below 0.
	Values []int64
	// Replicas is how many there were; below 0: is not known.
	Replicas int
}

// ParseCSV reads a trace. Its first line names the columns: "time", then metrics
// as the policy names them, and where it is known "replicas". A time is as in
// 2026-03-01T12:00:00Z, or the seconds since 1970 or any other beginning; each is
// later than the one before. Values are those of all replicas together: cpu in
// millicores, memory in bytes, and plain numbers of anything else.
func ParseCSV(r io.Reader) (Trace, error) {
	reader := csv.NewReader(r)
	reader.TrimLeadingSpace, reader.ReuseRecord = true, true
	header, err := reader.Read()
	if err != nil {
		return Trace{}, fmt.Errorf("read the first line of the trace: %w", err)
	}
	cols, err := columns(header)
	if err != nil {
		return Trace{}, err
	}
	t := Trace{Metrics: cols.metrics()}
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Trace{}, fmt.Errorf("read the trace: %w", err)
		}
		line, _ := reader.FieldPos(0)
		row, err := cols.row(record)
		switch {
		case err != nil:
			return Trace{}, fmt.Errorf("line %d: %w", line, err)
		case len(t.Rows) == maxRows:
			return Trace{}, fmt.Errorf("line %d: a trace has at most %d rows", line, maxRows)
		case len(t.Rows) > 0 && !row.At.After(t.Rows[len(t.Rows)-1].At):
			return Trace{}, fmt.Errorf("line %d: the time is not later than that of the row before", line)
		}
		t.Rows = append(t.Rows, row)
	}
	if len(t.Rows) < 2 {
		return Trace{}, errors.New("the trace has fewer than 2 rows: nothing happens in it")
	}
	return t, nil
}

// column is the name of one: "time", "replicas" or a metric.
type column string

type table []column

func columns(header []string) (table, error) {
	var cols table
	seen := map[string]bool{}
	for _, name := range header {
		if name == "" || seen[name] {
			return nil, fmt.Errorf("column %q of the trace is declared twice or has no name", name)
		}
		seen[name] = true
		cols = append(cols, column(name))
	}
	if cols[0] != "time" || len(cols.metrics()) == 0 {
		return nil, errors.New(`the first line of the trace names its columns: give "time" and at least one metric`)
	}
	return cols, nil
}

func (t table) metrics() []string {
	var names []string
	for _, c := range t {
		if c != "time" && c != "replicas" {
			names = append(names, string(c))
		}
	}
	return names
}

func (t table) row(record []string) (Row, error) {
	row := Row{Replicas: -1}
	for i, c := range t {
		var err error
		switch c {
		case "time":
			row.At, err = instant(record[i])
		case "replicas":
			row.Replicas, err = strconv.Atoi(record[i])
			if err != nil || row.Replicas < 0 || row.Replicas > scaling.MaxReplicas {
				err = fmt.Errorf("replicas: %q: give 0 to %d", record[i], scaling.MaxReplicas)
			}
		default:
			var v int64
			v, err = c.value(record[i])
			row.Values = append(row.Values, v)
		}
		if err != nil {
			return Row{}, err
		}
	}
	return row, nil
}

// instant reads a time, which is between the years 1 and 9999.
func instant(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(math.Abs(seconds) < 5e10) {
		return time.Time{}, fmt.Errorf("time: %q: give one like 2026-03-01T12:00:00Z, or seconds", text)
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(math.Round(part*1e9))).UTC(), nil
}

func (c column) value(text string) (int64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if c != scaling.CPU && c != scaling.Memory {
		v *= 1000
	}
	if err != nil || !(v >= 0) || v > math.MaxInt64/2 {
		return 0, fmt.Errorf("%s: %q: give a number that is not below 0", c, text)
	}
	return int64(math.Round(v)), nil
}
