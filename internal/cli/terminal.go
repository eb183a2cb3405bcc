package cli

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// isTerminal reports whether stream is a terminal. It asks the kernel only:
// nothing is written to the terminal and no answer is waited for.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalSize returns the columns and rows of w, or 0, 0 when it is no terminal.
func terminalSize(stream any) (width, height int) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// colored reports whether colours may be written to w.
func (a *app) colored(w io.Writer) bool {
	switch a.global.ansi {
	case "never":
		return false
	case "always":
		return true
	}
	if v, ok := a.env.lookup("NO_COLOR"); ok && v != "" {
		return false
	}
	if v, _ := a.env.lookup("TERM"); v == "dumb" {
		return false
	}
	return isTerminal(w)
}

// interrupts delivers the user's interrupts until stop is called. They arrive
// here in addition to whatever main does about them, so that a command can tell
// a first Ctrl-C from a second.
func (a *app) interrupts() (signals <-chan os.Signal, stop func()) {
	if a.env.Signals != nil {
		return a.env.Signals()
	}
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	return c, func() { signal.Stop(c) }
}
