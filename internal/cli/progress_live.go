package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
)

// liveProgress redraws a list of items on a terminal. The program behind it
// starts with the first event: a command that has nothing to tell never
// touches the terminal. It reads no input and asks the terminal nothing.
type liveProgress struct {
	out     io.Writer
	environ []string
	colors  bool
	title   string

	mu      sync.Mutex // protects program, done, stopped
	program *tea.Program
	done    chan struct{}
	stopped bool
	model   *liveModel
}

func newLiveProgress(a *app, title string) *liveProgress {
	return &liveProgress{out: a.env.Err, environ: a.env.Environ, colors: a.global.ansi != "never", title: title}
}

// Event shows news of an item; after Stop it does nothing.
func (p *liveProgress) Event(e progressEvent) {
	if program := p.start(); program != nil {
		program.Send(e)
	}
}

func (p *liveProgress) start() *tea.Program {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.program != nil {
		if p.stopped {
			return nil
		}
		return p.program
	}
	p.model = &liveModel{board: newBoard(p.title), width: 80, height: 24}
	if w, h := terminalSize(p.out); w > 0 && h > 0 {
		p.model.width, p.model.height = w, h
	}
	opts := []tea.ProgramOption{
		tea.WithInput(nil), tea.WithOutput(p.out), tea.WithEnvironment(p.environ),
		tea.WithoutSignalHandler(), tea.WithFPS(30), tea.WithWindowSize(p.model.width, p.model.height),
	}
	if !p.colors {
		opts = append(opts, tea.WithColorProfile(colorprofile.Ascii))
	}
	p.program = tea.NewProgram(p.model, opts...)
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		_, _ = p.program.Run() // without a terminal there is nothing to show
	}()
	return p.program
}

// Stop draws the last picture, prints the output of what failed, and gives the
// terminal back.
func (p *liveProgress) Stop() {
	p.mu.Lock()
	program := p.program
	again := p.stopped
	p.stopped = true
	p.mu.Unlock()
	if program == nil || again {
		return
	}
	program.Send(lastPicture{})
	<-p.done
	for _, it := range p.model.board.items {
		if it.state != progressError {
			continue
		}
		for _, line := range it.log {
			_, _ = fmt.Fprintf(p.out, "%s | %s\n", sanitize(it.id), sanitize(line))
		}
	}
}

type (
	lastPicture struct{}
	tick        time.Time
)

// liveModel is the bubbletea model of a board.
type liveModel struct {
	board         *board
	width, height int
	frame         int
	now           time.Time
}

func (m *liveModel) Init() tea.Cmd { return nextTick() }

func nextTick() tea.Cmd {
	return tea.Tick(100*time.Millisecond, func(t time.Time) tea.Msg { return tick(t) })
}

func (m *liveModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case progressEvent:
		m.now = time.Now()
		m.board.apply(msg, m.now)
	case tick:
		m.now = time.Time(msg)
		m.frame++
		return m, nextTick()
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case lastPicture:
		return m, tea.Quit
	}
	return m, nil
}

func (m *liveModel) View() tea.View {
	v := tea.NewView(m.render())
	v.DisableBracketedPasteMode = true // no input is read
	return v
}

// render draws the head line and as many items as fit: those at work first,
// then the latest finished.
func (m *liveModel) render() string {
	b := m.board
	shown, hidden := b.items, 0
	if room := max(m.height-3, 1); len(shown) > room {
		shown, hidden = pick(b.items, room)
	}
	idWidth, textWidth := 0, 0
	for _, it := range shown {
		idWidth = max(idWidth, lipgloss.Width(sanitize(it.id)))
		textWidth = max(textWidth, lipgloss.Width(it.describe()))
	}
	textWidth = min(textWidth, max(m.width-idWidth-14, 10))
	var out strings.Builder
	fmt.Fprintf(&out, "[+] %s %d/%d\n", b.title, b.done(), len(b.items))
	for _, it := range shown {
		out.WriteString(m.line(it, idWidth, textWidth))
		out.WriteByte('\n')
	}
	if hidden > 0 {
		fmt.Fprintf(&out, "   and %d more\n", hidden)
	}
	return out.String()
}

// pick chooses room items: what is at work or has failed, then the latest of the rest, in their order.
func pick(items []*boardItem, room int) (shown []*boardItem, hidden int) {
	chosen := make(map[*boardItem]bool, room)
	choose := func(it *boardItem) {
		if len(chosen) < room {
			chosen[it] = true
		}
	}
	for _, it := range items {
		if it.state == progressWorking || it.state == progressError {
			choose(it)
		}
	}
	for i := len(items) - 1; i >= 0; i-- {
		choose(items[i])
	}
	for _, it := range items {
		if chosen[it] {
			shown = append(shown, it)
		}
	}
	return shown, len(items) - len(shown)
}

func (m *liveModel) line(it *boardItem, idWidth, textWidth int) string {
	mark, color := m.mark(it.state)
	id := sanitize(it.id)
	text := lipgloss.NewStyle().Width(textWidth).MaxWidth(textWidth).MaxHeight(1).Inline(true).Render(it.describe())
	text += strings.Repeat(" ", max(0, textWidth-lipgloss.Width(text)))
	style := lipgloss.NewStyle().Foreground(color)
	line := fmt.Sprintf(" %s %s%s  %s", style.Render(mark), id, strings.Repeat(" ", idWidth-lipgloss.Width(id)), style.Render(text))
	if d := it.took(m.now); d != "" {
		line += " " + fmt.Sprintf("%7s", d)
	}
	return lipgloss.NewStyle().MaxWidth(m.width).Inline(true).Render(line)
}

func (m *liveModel) mark(s progressState) (string, lipgloss.ANSIColor) {
	switch s {
	case progressDone:
		return "✔", 2
	case progressWarning:
		return "!", 3
	case progressError:
		return "✘", 1
	case progressWorking:
	}
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	return string(frames[m.frame%len(frames)]), 4
}

// describe is an item's text: what happens to it, how far it is, and why.
func (it *boardItem) describe() string {
	parts := []string{it.text}
	if current, total := it.bytes(); total > 0 && it.state == progressWorking {
		parts = append(parts, fmt.Sprintf("%s / %s", humanBytes(current), humanBytes(total)))
	}
	if it.detail != "" {
		parts = append(parts, it.detail)
	} else if n := len(it.log); n > 0 && it.state == progressWorking {
		parts = append(parts, it.log[n-1])
	}
	return sanitize(strings.Join(parts, "  "))
}

// took is how long an item has been at work, or was.
func (it *boardItem) took(now time.Time) string {
	if it.began.IsZero() {
		return ""
	}
	end := it.ended
	if end.IsZero() {
		end = now
	}
	return fmt.Sprintf("%.1fs", max(0, end.Sub(it.began).Seconds()))
}

// humanBytes prints a size as Docker does: decimal units, four significant digits.
func humanBytes(n int64) string {
	size := float64(n)
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for size >= 1000 && i < len(units)-1 {
		size /= 1000
		i++
	}
	return fmt.Sprintf("%.4g%s", size, units[i])
}
