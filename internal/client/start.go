package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/runtime"
)

// BackgroundEnv is set for a daemon that a command has started: it logs to a
// file, and a command of another build may replace it.
const BackgroundEnv = "BERTH_BACKGROUND"

// startTimeout is how long a started daemon has until it answers.
const startTimeout = 15 * time.Second

// Starter connects to the daemon of one user and endpoint, and starts one in
// the background where none runs.
type Starter struct {
	Dirs    dirs.Dirs
	Program string   // the berth binary
	Environ []string // for the daemon: the engine's endpoint and the state's place are in it
	Build   string   // identifies this binary; a background daemon of another build is replaced
	// Ready is asked before a daemon is started where none runs, and keeps it
	// from being started by an error; nil: nothing is asked.
	Ready func(ctx context.Context) error
}

// Find returns a client for the daemon that runs, or nil when none does.
func (s *Starter) Find(ctx context.Context) (*Client, error) {
	c, _, err := s.find(ctx)
	return c, err
}

func (s *Starter) find(ctx context.Context) (*Client, api.DaemonInfo, error) {
	c := New(s.Dirs.Socket())
	info, err := c.Info(ctx)
	switch {
	case err == nil:
		return c, info, nil
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF): // the last two: it is just ending
		return nil, info, nil
	case errors.Is(err, os.ErrPermission):
		return nil, info, &runtime.Error{Kind: runtime.KindInvalid, Op: "reach", Object: "the daemon at " + s.Dirs.Socket(), Err: errors.New("permission denied; it belongs to another user")}
	default:
		return nil, info, err
	}
}

// Connect returns a client for the daemon, which is started when none runs,
// and replaced when a command of another build started it. Containers run on.
func (s *Starter) Connect(ctx context.Context) (*Client, error) {
	c, info, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	if c != nil && (info.Build == s.Build || !info.Background) {
		return c, nil
	}
	if c != nil {
		if err := s.stop(ctx, info.PID); err != nil {
			return nil, err
		}
	} else if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return s.start(ctx)
}

// stop ends a background daemon of another build and waits until it is gone.
func (s *Starter) stop(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("replace the daemon of another version (process %d): %w", pid, err)
	}
	return poll(ctx, func() (bool, error) {
		c, _, err := s.find(ctx)
		return c == nil && err == nil, nil
	})
}

// start runs the daemon in a session of its own and waits until it answers.
func (s *Starter) start(ctx context.Context) (*Client, error) {
	if err := s.Dirs.Create(); err != nil {
		return nil, err
	}
	stderr, err := os.Create(s.stderrPath())
	if err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	defer func() { _ = stderr.Close() }()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.Program, "serve", "--log-format", "json") // #nosec G204 -- this program itself; it outlives ctx
	cmd.Env = append(s.Environ, BackgroundEnv+"=1")
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return s.await(ctx, ended)
}

func (s *Starter) stderrPath() string { return s.Dirs.Log() + ".err" }

// await waits until the daemon answers. One that ends instead may have lost the
// race against another command's, which then answers in its place.
func (s *Starter) await(ctx context.Context, ended <-chan error) (*Client, error) {
	var client *Client
	var died error
	err := poll(ctx, func() (bool, error) {
		c, _, err := s.find(ctx)
		if err != nil || c != nil {
			client = c
			return true, err
		}
		select {
		case died = <-ended:
			ended = nil
		default:
		}
		if died != nil && ended == nil && !s.locked() {
			return true, died
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("start the daemon: %w%s", err, s.lastWords())
	}
	return client, nil
}

// locked reports whether some daemon holds the lock.
func (s *Starter) locked() bool {
	f, err := os.Open(s.Dirs.Lock())
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) // #nosec G115 -- a file descriptor
	return errors.Is(err, syscall.EWOULDBLOCK)
}

// lastWords are the last lines the daemon wrote.
func (s *Starter) lastWords() string {
	data, err := os.ReadFile(s.stderrPath())
	data = bytes.TrimSpace(data)
	if err != nil || len(data) == 0 {
		return "; its log is " + s.Dirs.Log()
	}
	lines := strings.Split(string(data), "\n")
	return "; it said: " + strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// poll asks done every few milliseconds, at most for startTimeout.
func poll(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it does not answer within %s", startTimeout)
		}
	}
}
