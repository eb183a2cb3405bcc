package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
)

// column is one column of a table: its title, and its text for a row.
type column[T any] struct {
	Title string
	Value func(row T) string
}

// listing prints rows in the formats Compose knows: "table" (or nothing),
// "json", a Go template, or "table " and a template, which adds titles.
type listing[T any] struct {
	Columns []column[T]
	// Titles are the titles of a template's fields: "Name" → "NAME". A field
	// that is missing here is titled by its name in capitals.
	Titles map[string]string
	// JSON is what is printed of a row as JSON, and what templates see; nil: the row itself.
	JSON func(row T) any
	// Array prints one JSON array; else one object a line.
	Array bool
}

// print writes rows to w in the given format, with few large writes: a table of
// 50 rows has a thousand pieces.
func (l *listing[T]) print(w io.Writer, format string, rows []T) error {
	out := bufio.NewWriter(w)
	return errors.Join(l.write(out, format, rows), out.Flush())
}

func (l *listing[T]) write(w io.Writer, format string, rows []T) error {
	switch format {
	case "", "table":
		return l.table(w, rows)
	case "json":
		return l.json(w, rows)
	case "pretty":
		return l.table(w, rows)
	}
	if text, ok := strings.CutPrefix(format, "table "); ok {
		return l.templateTable(w, text, rows)
	}
	return l.template(w, format, rows)
}

func (l *listing[T]) table(w io.Writer, rows []T) error {
	t := tableWriter(w)
	cells := make([]string, len(l.Columns))
	for i, c := range l.Columns {
		cells[i] = c.Title
	}
	writeCells(t, cells)
	for _, r := range rows {
		for i, c := range l.Columns {
			cells[i] = c.Value(r)
		}
		writeCells(t, cells)
	}
	return t.Flush()
}

// tableWriter aligns tab-separated cells as Docker's tables are: three spaces
// between columns, none of them narrower than ten.
func tableWriter(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

// writeCells writes one row; what the terminal would obey is made harmless.
func writeCells(w io.Writer, cells []string) {
	for i, c := range cells {
		if i > 0 {
			_, _ = io.WriteString(w, "\t") // a tabwriter keeps all until Flush, which reports errors
		}
		_, _ = io.WriteString(w, strings.ReplaceAll(sanitize(c), "\t", " "))
	}
	_, _ = io.WriteString(w, "\n")
}

func (l *listing[T]) value(row T) any {
	if l.JSON == nil {
		return row
	}
	return l.JSON(row)
}

func (l *listing[T]) json(w io.Writer, rows []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if l.Array {
		values := make([]any, len(rows))
		for i, r := range rows {
			values[i] = l.value(r)
		}
		return enc.Encode(values)
	}
	for _, r := range rows {
		if err := enc.Encode(l.value(r)); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing[T]) template(w io.Writer, text string, rows []T) error {
	t, err := parseFormat(text)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := executeLine(w, t, l.value(r)); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing[T]) templateTable(w io.Writer, text string, rows []T) error {
	t, err := parseFormat(text)
	if err != nil {
		return err
	}
	tw := tableWriter(w)
	if err := executeLine(tw, t, l.titles(text)); err != nil {
		return err
	}
	for _, r := range rows {
		if err := executeLine(tw, t, l.value(r)); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// titles returns what a template must be executed on to print its own heading.
func (l *listing[T]) titles(text string) map[string]string {
	m := make(map[string]string)
	for _, part := range strings.Split(text, ".")[1:] {
		end := strings.IndexFunc(part, func(r rune) bool {
			return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		})
		if end < 0 {
			end = len(part)
		}
		if name := part[:end]; name != "" {
			m[name] = strings.ToUpper(name)
		}
	}
	for k, v := range l.Titles {
		m[k] = v
	}
	return m
}

func executeLine(w io.Writer, t *template.Template, data any) error {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// parseFormat parses a --format template with the functions Docker's templates have.
func parseFormat(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("").Option("missingkey=error").Funcs(formatFuncs()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--format %q is neither table, json nor a Go template: %w", text, err)
	}
	return t, nil
}

func formatFuncs() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSpace(b.String()), err
		},
		"split": strings.Split,
		"join":  strings.Join,
		"title": func(s string) string {
			if s == "" {
				return s
			}
			return strings.ToUpper(s[:1]) + s[1:]
		},
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
		},
		"truncate": func(s string, n int) string {
			if r := []rune(s); len(r) > n && n >= 0 {
				return string(r[:n])
			}
			return s
		},
	}
}
