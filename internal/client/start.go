package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/runtime"
)

// BackgroundEnv is set for a daemon that a command has started: it logs to a
// file, and a command of another build may replace it.
const BackgroundEnv = "BERTH_BACKGROUND"

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
	// Patience is how long a started daemon has until it answers, and one that
	// is replaced until it has ended; 0: 15 s.
	Patience time.Duration
}

const defaultPatience = 15 * time.Second

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
	if err != nil || s.fits(c, info) {
		return c, err
	}
	if c == nil && s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			return nil, err
		}
	}
	release, err := s.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	c, info, err = s.find(ctx) // another command may have been faster
	if err != nil || s.fits(c, info) {
		return c, err
	}
	if c != nil {
		if err := s.replace(ctx, info.PID); err != nil {
			return nil, err
		}
	} else if c, err = s.settle(ctx); c != nil || err != nil {
		return c, err
	}
	return s.start(ctx)
}

// Supersede ends the daemon that runs, if one does and whoever started it, and
// keeps commands from starting another until release is called: the caller is to
// be the next. A daemon with published ports that lingers hands them to it.
func (s *Starter) Supersede(ctx context.Context) (release func(), err error) {
	release, err = s.alone(ctx)
	if err != nil {
		return nil, err
	}
	c, info, err := s.find(ctx)
	if err == nil && c != nil {
		err = s.replace(ctx, info.PID)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// fits reports whether a daemon runs that need not be replaced.
func (s *Starter) fits(c *Client, info api.DaemonInfo) bool {
	return c != nil && (info.Build == s.Build || !info.Background)
}

// alone waits until no other command starts or replaces the daemon, and keeps
// them from it until release is called.
func (s *Starter) alone(ctx context.Context) (release func(), err error) {
	if err := s.Dirs.Create(); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(s.Dirs.State, "start.lock"), flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, 2*s.patience())
	defer cancel()
	if _, err := lock.TryLockContext(waiting, pollEvery); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("start the daemon: another command is about it and does not come to an end (lock %s): %w", lock.Path(), err)
	}
	return func() { _ = lock.Unlock() }, nil // the lock goes with the process anyway
}

func (s *Starter) patience() time.Duration { return cmp.Or(s.Patience, defaultPatience) }

// replace ends the daemon that is this process and waits until it is gone,
// its lock included.
func (s *Starter) replace(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("replace the daemon that runs (process %d): %w", pid, err)
	}
	err := s.poll(ctx, func() (bool, error) {
		c, _, err := s.find(ctx)
		return c == nil && err == nil && !s.locked(), nil
	})
	if errors.Is(err, errImpatient) {
		return fmt.Errorf("replace the daemon that runs (process %d): it does not end within %s; end it and run the command again", pid, s.patience())
	}
	return err
}

// settle waits while a daemon that holds the lock comes up or ends: for its
// client, or for nil when it is gone.
func (s *Starter) settle(ctx context.Context) (*Client, error) {
	var client *Client
	err := s.poll(ctx, func() (bool, error) {
		c, _, err := s.find(ctx)
		client = c
		return c != nil || !s.locked(), err
	})
	if errors.Is(err, errImpatient) {
		return nil, fmt.Errorf("reach the daemon: one holds the lock %s and does not answer within %s; end it and run the command again", s.Dirs.Lock(), s.patience())
	}
	return client, err
}

// start runs the daemon in a session of its own and waits until it answers.
func (s *Starter) start(ctx context.Context) (*Client, error) {
	stderr, err := os.Create(s.stderrPath())
	if err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	defer func() { _ = stderr.Close() }()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.Program, "serve", "--log-format", "json", "--linger", linger) // #nosec G204 -- this program itself; it outlives ctx
	cmd.Env = append(slices.Clone(s.Environ), BackgroundEnv+"=1")
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
// race against one that a person started, which then answers in its place.
func (s *Starter) await(ctx context.Context, ended <-chan error) (*Client, error) {
	var client *Client
	var died error
	err := s.poll(ctx, func() (bool, error) {
		c, _, err := s.find(ctx)
		if err != nil || c != nil {
			client = c
			return true, err
		}
		select {
		case err := <-ended:
			died = cmp.Or(err, errEnded)
		default:
		}
		if died != nil && !s.locked() {
			return true, died
		}
		return false, nil
	})
	switch {
	case errors.Is(err, errImpatient):
		err = fmt.Errorf("it does not answer within %s", s.patience())
	case err != nil && ctx.Err() != nil:
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("start the daemon: %w%s", err, s.lastWords())
	}
	return client, nil
}

var errEnded = errors.New("it ended at once")

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

// linger is how long a daemon that is replaced waits for the next one, which
// takes over its published ports.
const linger = "5s"

// pollEvery is how often the daemon is asked for while it is to come or go.
const pollEvery = 5 * time.Millisecond

// errImpatient says that what was waited for has not happened in time.
var errImpatient = errors.New("not in time")

// poll asks done every few milliseconds while there is patience.
func (s *Starter) poll(ctx context.Context, done func() (bool, error)) error {
	late := time.NewTimer(s.patience())
	defer late.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-late.C:
			return errImpatient
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
