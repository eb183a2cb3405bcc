package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

// detachTime is how long a process may take to end after its output has; one
// that takes longer has been detached from.
const detachTime = 500 * time.Millisecond

// attachOptions are the flags of attach.
type attachOptions struct {
	detachKeys string
	index      int
	noStdin    bool
	proxy      bool
}

func newAttach(a *app) *cobra.Command {
	var o attachOptions
	cmd := &cobra.Command{
		Use:               "attach [OPTIONS] SERVICE",
		Short:             "Attach local standard input, output, and error streams to a service's running container",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.attach(cmd.Context(), args[0], &o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.index, "index", 0, "index of the container if service has multiple replicas.")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching from a container.")
	f.BoolVar(&o.noStdin, "no-stdin", false, "Do not attach STDIN")
	f.BoolVar(&o.proxy, "sig-proxy", true, "Proxy all received signals to the process")
	return cmd
}

// attach connects the user to a container's main process and gives its exit
// code when it ends.
func (a *app) attach(ctx context.Context, service string, o *attachOptions) error {
	if err := checkDetachKeys(o.detachKeys); err != nil {
		return err
	}
	t, err := a.resolve(ctx, service)
	if err != nil {
		return err
	}
	found, err := a.runningContainer(ctx, t, service, o.index)
	if err != nil {
		return err
	}
	if a.global.dryRun {
		_, err := fmt.Fprintf(a.env.Out, "attach %s\n", sanitize(found.Name))
		return err
	}
	c, err := a.engine.Inspect(ctx, found.ID) // a list does not tell whether there is a TTY
	if err != nil {
		return err
	}
	s, err := a.openSession(c.TTY, !o.noStdin)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := a.attachTo(ctx, &c, o, s); err != nil {
		return err
	}
	s.Close()
	return a.exitOf(ctx, &c)
}

// attachTo is connected until the process ends, the user detaches, or a signal
// that is not for the process comes.
func (a *app) attachTo(ctx context.Context, c *runtime.Container, o *attachOptions, s *session) error {
	signals, release := a.interrupts()
	defer release()
	// With --sig-proxy the end is the process's to decide.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- a.engine.Attach(work, c.ID, runtime.AttachOptions{NoStdin: o.noStdin, DetachKeys: o.detachKeys, Resize: s.Resize}, s.Streams)
	}()
	over := ctx.Done()
	for {
		select {
		case err := <-ended:
			return err
		case <-over:
			if !o.proxy {
				return &ExitError{Code: 130}
			}
			over = nil // the same signal arrives below
		case sig := <-signals:
			if !o.proxy {
				return &ExitError{Code: 130}
			}
			if err := a.engine.Kill(work, c.ID, signalWord(sig)); err != nil && !runtime.IsConflict(err) && !runtime.IsNotFound(err) {
				return err
			}
		}
	}
}

// checkDetachKeys refuses what is not a sequence of keys, before the engine does
// so less clearly.
func checkDetachKeys(keys string) error {
	if keys == "" {
		return nil
	}
	for key := range strings.SplitSeq(keys, ",") {
		ctrl, isCtrl := strings.CutPrefix(key, "ctrl-")
		letter := isCtrl && len(ctrl) == 1 && (ctrl[0] >= 'a' && ctrl[0] <= 'z' || strings.Contains(`@[\]^_`, ctrl))
		if !letter && len(key) != 1 {
			return fmt.Errorf("attach: --detach-keys %q: %q is not a key; use letters and ctrl-<letter>, separated by commas", keys, key)
		}
	}
	return nil
}

// signalWord is a signal's name as the engine takes it.
func signalWord(sig os.Signal) string {
	if sig == syscall.SIGTERM {
		return "TERM"
	}
	return "INT"
}

// exitOf is the exit code of a process that has just ended; none when it runs on.
func (a *app) exitOf(ctx context.Context, c *runtime.Container) error {
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachTime)
	defer cancel()
	exit, err := a.engine.Wait(brief, c.ID)
	switch {
	case brief.Err() != nil || runtime.IsNotFound(err):
		return nil // detached, or removed with its end
	case err != nil:
		return err
	case exit.Code != 0:
		return &ExitError{Code: exit.Code}
	}
	return nil
}
