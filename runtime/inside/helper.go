package inside

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// HelperCommand is the first argument by which Berth's program becomes a helper.
const HelperCommand = "inside-helper"

// Engine is what helpers need of an engine.
type Engine interface {
	List(ctx context.Context, filter runtime.Filter) ([]runtime.Container, error)
	Inspect(ctx context.Context, id string) (runtime.Container, error)
	Create(ctx context.Context, name string, labels map[string]string, spec *runtime.Spec, contents map[string][]byte) (string, error)
	Start(ctx context.Context, id string) error
	Wait(ctx context.Context, id string) (runtime.ExitStatus, error)
	Exec(ctx context.Context, id string, spec runtime.ExecSpec, streams runtime.Streams) (int, error)
	Remove(ctx context.Context, id string, volumes, force bool) error
}

// What a helper is told to do, and the first bytes that it answers.
const (
	doWait, doDial, doKill = "wait", "dial", "kill"

	begun    = '~' // it runs; what follows is the container's own doing
	reached  = '+'
	failed   = '-' // and why, on the same line
	program  = "/berth"
	makeTime = time.Minute // for a helper to be there
	connTime = time.Minute // the longest that a connection lives
)

// Helpers reach into containers by helper containers, one for each, which share
// the network and the processes of theirs and end with it.
type Helpers struct {
	Engine Engine
	Image  func(ctx context.Context) (string, error) // of an image that holds Berth's program

	mu    sync.Mutex         // protects what follows
	owner string             // the id of this installation
	of    map[string]*helper // by container

	sweeping sync.Mutex // protects swept
	swept    bool
}

// helper is one container of Berth's own.
type helper struct {
	ready chan struct{} // closed once the rest is known
	id    string
	err   error
}

// SetOwner says which installation the helpers are of; there are none before.
func (h *Helpers) SetOwner(owner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owner = owner
}

// get returns the helper of a container, and begins to make it where there is
// none. ctx bounds the waiting, not the making.
func (h *Helpers) get(ctx context.Context, container string) (string, error) {
	h.mu.Lock()
	if h.owner == "" {
		h.mu.Unlock()
		return "", errors.New("whose helper it would be is not known yet")
	}
	if h.of == nil {
		h.of = map[string]*helper{}
	}
	one := h.of[container]
	if one == nil {
		one = &helper{ready: make(chan struct{})}
		h.of[container] = one
		go h.make(context.WithoutCancel(ctx), container, one)
	}
	h.mu.Unlock()
	select {
	case <-one.ready:
		return one.id, one.err
	case <-ctx.Done():
		return "", errors.New("the helper container is being made")
	}
}

// forget has the next call make another helper.
func (h *Helpers) forget(container, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if one := h.of[container]; one != nil && one.id == id {
		delete(h.of, container)
	}
}

// make starts a helper, and removes it once it has ended: with its container's
// run, or by [Helpers.Close].
func (h *Helpers) make(ctx context.Context, container string, one *helper) {
	start, cancel := context.WithTimeout(ctx, makeTime)
	one.id, one.err = h.start(start, container)
	cancel()
	close(one.ready)
	if one.err == nil {
		_, _ = h.Engine.Wait(ctx, one.id) // an engine that is gone has it swept later
		_ = h.Engine.Remove(ctx, one.id, true, true)
	}
	h.forget(container, one.id)
}

func (h *Helpers) start(ctx context.Context, container string) (string, error) {
	if err := h.sweep(ctx); err != nil {
		return "", err
	}
	image, err := h.Image(ctx)
	if err != nil {
		return "", err
	}
	var tag [6]byte
	if _, err := rand.Read(tag[:]); err != nil {
		return "", err
	}
	id, err := h.Engine.Create(ctx, "berth-inside-"+hex.EncodeToString(tag[:]), h.labels(), helperSpec(image, container), nil)
	if err != nil {
		return "", err
	}
	if err := h.Engine.Start(ctx, id); err != nil {
		_ = h.Engine.Remove(ctx, id, true, true) // one that stays is swept by the next daemon
		return "", err
	}
	return id, nil
}

// labelInside tells these helpers from those of another kind.
const labelInside = "io.berth.inside"

func (h *Helpers) labels() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := runtime.HelperLabels(h.owner)
	l[labelInside] = "true"
	return l
}

// sweep removes, once, what an earlier daemon left.
func (h *Helpers) sweep(ctx context.Context) error {
	h.sweeping.Lock()
	defer h.sweeping.Unlock()
	if h.swept {
		return nil
	}
	err := h.remove(ctx)
	h.swept = err == nil
	return err
}

func (h *Helpers) remove(ctx context.Context) error {
	list, err := h.Engine.List(ctx, runtime.Filter{Labels: h.labels()})
	if err != nil {
		return err
	}
	for i := range list {
		if err := h.Engine.Remove(ctx, list[i].ID, true, true); err != nil && !runtime.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// Close removes all helpers.
func (h *Helpers) Close(ctx context.Context) error {
	h.mu.Lock()
	none := len(h.of) == 0
	h.mu.Unlock()
	if none {
		return nil
	}
	return h.remove(ctx)
}

// helperSpec is a helper's container: it may end what runs in the other, and see
// the environment by which that is told, and nothing else.
func helperSpec(image, container string) *runtime.Spec {
	return &runtime.Spec{
		Image: image, Entrypoint: []string{program}, Command: []string{HelperCommand, doWait},
		NetworkMode: "container:" + container, PidMode: "container:" + container, User: "0:0", ReadOnly: true,
		CapDrop: []string{"ALL"}, CapAdd: []string{"KILL", "SYS_PTRACE"}, SecurityOpt: []string{"no-new-privileges"},
		Logging: &runtime.Logging{Driver: "none"}, Limits: runtime.Limits{Memory: 128 << 20, Pids: 256},
	}
}

// Dial connects from within a container's network. An error of [runtime.Error]
// says that the helper did not come to connecting.
func (h *Helpers) Dial(ctx context.Context, container, address string) (net.Conn, error) {
	lost := func(err error) error {
		return &runtime.Error{Kind: runtime.KindUnavailable, Op: "reach by a helper", Object: container, Err: err}
	}
	id, err := h.get(ctx, container)
	if err != nil {
		return nil, lost(err)
	}
	ours, theirs := net.Pipe()
	during, cancel := context.WithTimeout(context.WithoutCancel(ctx), connTime)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		_, err := h.Engine.Exec(during, id, runtime.ExecSpec{Command: []string{program, HelperCommand, doDial, address}}, runtime.Streams{In: theirs, Out: theirs})
		ended <- err
		_ = theirs.Close() // never fails
	}()
	stop := context.AfterFunc(ctx, func() { _ = ours.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &conn{Conn: ours, r: bufio.NewReader(ours), cancel: cancel}
	state, why := c.opening()
	if state == reached {
		return c, nil
	}
	_ = c.Close() // never fails
	switch state {
	case failed:
		return nil, errors.New(why)
	case begun:
		return nil, ctx.Err()
	}
	select {
	case err := <-ended:
		h.forget(container, id) // it may have ended with the container's last run
		return nil, lost(errors.Join(errors.New("the helper ended"), err))
	default:
		return nil, lost(errors.New("no answer from the engine in time"))
	}
}

// conn is a connection through a helper.
type conn struct {
	net.Conn
	r      *bufio.Reader
	cancel context.CancelFunc
}

func (c *conn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.cancel()
	return err
}

// opening reads how far the helper has come.
func (c *conn) opening() (state byte, why string) {
	for state != reached {
		b, err := c.r.ReadByte()
		if err != nil {
			return state, ""
		}
		if state = b; state == failed {
			why, _ = c.r.ReadString('\n') // as much as there is
			return state, strings.TrimSpace(why)
		}
	}
	return state, ""
}

// Kill ends, in a container, whatever has entry in its environment with all that
// came of it.
func (h *Helpers) Kill(ctx context.Context, container, entry string) error {
	id, err := h.get(ctx, container)
	if err != nil {
		return err
	}
	var out strings.Builder
	code, err := h.Engine.Exec(ctx, id, runtime.ExecSpec{Command: []string{program, HelperCommand, doKill, entry}}, runtime.Streams{Out: &out, Err: &out})
	if err != nil || code != 0 {
		h.forget(container, id)
		return errors.Join(err, fmt.Errorf("the helper ended with exit code %d: %s", code, strings.TrimSpace(out.String())))
	}
	return nil
}

// Serve is the helper's program.
func Serve(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == doWait:
		<-ctx.Done()
		return nil
	case len(args) == 2 && args[0] == doDial:
		return relay(ctx, args[1], in, out)
	case len(args) == 2 && args[0] == doKill:
		return killMarked(ctx, args[1])
	}
	return errors.New("this command is run by Berth in a container of its own")
}

// relay connects and copies both ways until either side ends.
func relay(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	if _, err := out.Write([]byte{begun}); err != nil {
		return err
	}
	d := net.Dialer{Timeout: connTime}
	to, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		_, err = fmt.Fprintf(out, "%c%s\n", failed, strings.ReplaceAll(err.Error(), "\n", " "))
		return err
	}
	defer func() { _ = to.Close() }() // it served
	if _, err := out.Write([]byte{reached}); err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { _, err := io.Copy(to, in); ended <- err }()
	go func() { _, err := io.Copy(out, to); ended <- err }()
	return <-ended
}
