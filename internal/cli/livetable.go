package cli

import (
	"io"
	"strings"
	"sync"

	tea "charm.land/bubbletea/v2"
)

// tableText collects a table.
type tableText = strings.Builder

// liveTable shows a text that changes. Stop leaves the last one on the screen.
type liveTable interface {
	Show(text string) error
	Stop()
}

// liveTable draws over the former text on a terminal, and elsewhere prints one
// text after the other.
func (a *app) liveTable() liveTable {
	term, _ := a.env.lookup("TERM")
	width, height := terminalSize(a.env.Out)
	if width == 0 || height == 0 || a.global.ansi == "never" || term == "dumb" {
		return printedTable{a.env.Out}
	}
	t := &drawnTable{model: &tableModel{}, done: make(chan struct{})}
	t.program = tea.NewProgram(t.model, tea.WithInput(nil), tea.WithOutput(a.env.Out), tea.WithEnvironment(a.env.Environ), tea.WithoutSignalHandler(), tea.WithFPS(10))
	go func() {
		defer close(t.done)
		_, _ = t.program.Run() // without a terminal there is nothing to show
	}()
	return t
}

// printedTable prints one text after the other.
type printedTable struct{ w io.Writer }

func (t printedTable) Show(text string) error {
	_, err := io.WriteString(t.w, text)
	return err
}

func (printedTable) Stop() {}

// drawnTable redraws a text in place.
type drawnTable struct {
	program *tea.Program
	model   *tableModel
	done    chan struct{}
	once    sync.Once
}

func (t *drawnTable) Show(text string) error {
	t.program.Send(newText(text))
	return nil
}

func (t *drawnTable) Stop() {
	t.once.Do(func() {
		t.program.Send(lastPicture{})
		<-t.done
	})
}

type newText string

// tableModel is the bubbletea model of a drawnTable.
type tableModel struct {
	text   string
	height int
}

func (m *tableModel) Init() tea.Cmd { return nil }

func (m *tableModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case newText:
		m.text = string(msg)
	case tea.WindowSizeMsg:
		m.height = msg.Height
	case lastPicture:
		return m, tea.Quit
	}
	return m, nil
}

// View is the text, cut to what fits on the screen.
func (m *tableModel) View() tea.View {
	lines := strings.SplitAfter(m.text, "\n")
	if m.height > 1 && len(lines) > m.height {
		lines = lines[:m.height-1]
	}
	return tea.NewView(strings.Join(lines, ""))
}
