package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// progressState says how far an item is.
type progressState string

const (
	progressWorking progressState = "Working"
	progressDone    progressState = "Done"
	progressWarning progressState = "Warning"
	progressError   progressState = "Error"
)

// progressEvent is news of one item, such as "Container shop-web-1".
type progressEvent struct {
	ID      string
	Parent  string        // ID of the item this is a part of, such as an image's layer
	Text    string        // "Creating"
	Detail  string        // why, or how far
	State   progressState // empty: working
	Current int64         // bytes
	Total   int64         // bytes; 0: unknown
	Log     string        // a line of output, such as a build's; the item itself stays as it is
}

// progress shows what goes on. It is safe for concurrent use. Stop leaves the
// last picture on the screen; after it, and without any event, nothing is shown.
type progress interface {
	Event(progressEvent)
	Stop()
}

// progress returns the printer that --progress asks for. It writes to standard
// error. title is the word of the head line, "Running" or "Pulling". Nothing
// is started, and the terminal is not touched, before the first event.
func (a *app) progress(title string) progress {
	switch a.progressMode() {
	case "tty":
		return newLiveProgress(a, title)
	case "json":
		return &jsonProgress{w: a.env.Err, dryRun: a.global.dryRun}
	case "quiet":
		return quietProgress{}
	}
	return &plainProgress{w: a.env.Err, last: make(map[string]string)}
}

// linesOnly returns the printer to use beside the containers' output, where
// nothing can be redrawn.
func (a *app) linesOnly() progress {
	switch a.progressMode() {
	case "json":
		return &jsonProgress{w: a.env.Err, dryRun: a.global.dryRun}
	case "quiet":
		return quietProgress{}
	}
	return &plainProgress{w: a.env.Err, last: make(map[string]string)}
}

func (a *app) progressMode() string {
	if a.global.progress != "auto" {
		return a.global.progress
	}
	term, _ := a.env.lookup("TERM")
	if width, _ := terminalSize(a.env.Err); width > 0 && a.global.ansi != "never" && term != "dumb" {
		return "tty" // a terminal without a size cannot be drawn on
	}
	return "plain"
}

// quietProgress shows nothing.
type quietProgress struct{}

func (quietProgress) Event(progressEvent) {}
func (quietProgress) Stop()               {}

// quietBuild shows nothing of a build but the end of what a failed one told.
type quietBuild struct {
	w    io.Writer
	mu   sync.Mutex // protects logs, and the order of lines
	logs map[string][]string
}

func (p *quietBuild) Event(e progressEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.Log != "":
		if p.logs == nil {
			p.logs = make(map[string][]string)
		}
		lines := append(p.logs[e.ID], e.Log)
		p.logs[e.ID] = lines[max(0, len(lines)-keptLog):]
	case e.State == progressError:
		for _, line := range p.logs[e.ID] {
			_, _ = fmt.Fprintf(p.w, " %s | %s\n", sanitize(e.ID), sanitize(line))
		}
	}
}

func (p *quietBuild) Stop() {}

// plainProgress prints one line for each change of an item's text.
type plainProgress struct {
	w    io.Writer
	mu   sync.Mutex // protects last, and the order of lines
	last map[string]string
}

func (p *plainProgress) Event(e progressEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Log != "" {
		_, _ = fmt.Fprintf(p.w, " %s | %s\n", sanitize(e.ID), sanitize(e.Log))
		return
	}
	line := e.Text
	if e.Detail != "" && (e.State == progressError || e.State == progressWarning || e.Total == 0) {
		line += "  " + e.Detail
	}
	if e.Text == "" || p.last[e.Parent+"\x00"+e.ID] == line {
		return
	}
	p.last[e.Parent+"\x00"+e.ID] = line
	id := e.ID
	if e.Parent != "" {
		id = e.Parent + " " + e.ID
	}
	_, _ = fmt.Fprintf(p.w, " %s  %s\n", sanitize(id), sanitize(line))
}

func (p *plainProgress) Stop() {}

// jsonProgress prints one JSON object an event, as Compose does.
type jsonProgress struct {
	w      io.Writer
	dryRun bool
	mu     sync.Mutex // protects the order of lines
}

type jsonEvent struct {
	DryRun  bool   `json:"dry-run,omitempty"`
	ID      string `json:"id,omitempty"`
	Parent  string `json:"parent_id,omitempty"`
	Status  string `json:"status,omitempty"`
	Text    string `json:"text,omitempty"`
	Details string `json:"details,omitempty"`
	Current int64  `json:"current,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Percent int    `json:"percent,omitempty"`
}

func (p *jsonProgress) Event(e progressEvent) {
	j := jsonEvent{
		DryRun: p.dryRun, ID: e.ID, Parent: e.Parent, Status: string(e.State), Text: e.Text, Details: e.Detail,
		Current: e.Current, Total: e.Total,
	}
	if j.Status == "" {
		j.Status = string(progressWorking)
	}
	if e.Log != "" {
		j.Details = e.Log
	}
	if e.Total > 0 {
		j.Percent = int(min(e.Current*100/e.Total, 100))
	}
	line, err := json.Marshal(j)
	if err != nil {
		return // strings and numbers always encode
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.w.Write(append(line, '\n'))
}

func (p *jsonProgress) Stop() {}

// board is what a live progress shows: items in the order they appeared.
type board struct {
	title string
	items []*boardItem
	byID  map[string]*boardItem
}

type boardItem struct {
	id, text, detail string
	state            progressState
	began, ended     time.Time
	parts            map[string]progressEvent // of layers, by ID
	log              []string                 // the last lines of output
}

// keptLog is how many lines of an item's output are kept, to be shown when it fails.
const keptLog = 40

func newBoard(title string) *board { return &board{title: title, byID: make(map[string]*boardItem)} }

func (b *board) item(id string, now time.Time) *boardItem {
	it := b.byID[id]
	if it == nil {
		it = &boardItem{id: id, began: now, state: progressWorking, parts: make(map[string]progressEvent)}
		b.byID[id] = it
		b.items = append(b.items, it)
	}
	return it
}

// apply takes in an event at now.
func (b *board) apply(e progressEvent, now time.Time) {
	if e.Parent != "" {
		b.item(e.Parent, now).parts[e.ID] = e
		return
	}
	it := b.item(e.ID, now)
	if e.Log != "" {
		it.log = append(it.log, e.Log)
		if len(it.log) > keptLog {
			it.log = it.log[len(it.log)-keptLog:]
		}
		return
	}
	state := e.State
	if state == "" {
		state = progressWorking
	}
	if state == progressWorking && it.state != progressWorking {
		it.began, it.ended = now, time.Time{} // it goes on: a created container starts
	}
	if state != progressWorking && it.ended.IsZero() {
		it.ended = now
	}
	it.state, it.text, it.detail = state, e.Text, e.Detail
	if e.Total > 0 {
		it.parts[""] = e
	}
}

// bytes sums what is known of an item's transfer.
func (it *boardItem) bytes() (current, total int64) {
	for _, p := range it.parts {
		if p.Total > 0 {
			current += min(p.Current, p.Total)
			total += p.Total
		}
	}
	return current, total
}

func (b *board) done() int {
	n := 0
	for _, it := range b.items {
		if it.state != progressWorking {
			n++
		}
	}
	return n
}
