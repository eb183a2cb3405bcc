package cgroup

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// HelperCommand is the first argument by which Berth's program becomes the helper.
const HelperCommand = "boundary-helper"

// Engine is what is needed of an engine: its containers, to recognize its cgroups,
// and the means to run a helper.
type Engine interface {
	List(ctx context.Context, filter runtime.Filter) ([]runtime.Container, error)
	Image(ctx context.Context, ref string) (runtime.Image, error)
	Import(ctx context.Context, tag string, labels map[string]string, archive io.Reader) (string, error)
	RemoveImage(ctx context.Context, ref string, force bool) error
	Create(ctx context.Context, name string, labels map[string]string, spec *runtime.Spec, contents map[string][]byte) (string, error)
	Start(ctx context.Context, id string) error
	Wait(ctx context.Context, id string) (runtime.ExitStatus, error)
	Logs(ctx context.Context, id string, opts runtime.LogOptions, stdout, stderr io.Writer) error
	Remove(ctx context.Context, id string, volumes, force bool) error
}

const (
	// HelperImage is the image that holds Berth's program on the engine.
	HelperImage = "berth-helper:local"

	hashLabel     = "io.berth.helper.hash"
	program       = "/berth"
	helperBase    = "/host/cgroup"
	helperTimeout = time.Minute // from creation to removal
	maxAnswer     = 1 << 20     // bytes
)

// request is what a helper is to do.
type request struct {
	Op       string             `json:"op"` // "check", "ensure", "remove", "list" or "pressure"
	Driver   string             `json:"driver"`
	Owner    string             `json:"owner"`
	Node     string             `json:"node,omitempty"`
	Limits   runtime.NodeLimits `json:"limits,omitzero"`
	Base     string             `json:"base"`
	Rootless bool               `json:"rootless,omitempty"`
}

// answer is what it says.
type answer struct {
	Report   report                      `json:"report,omitzero"`
	Nodes    []string                    `json:"nodes,omitempty"`
	Pressure map[string]runtime.Pressure `json:"pressure,omitempty"` // of every node that has a cgroup
	Error    *failure                    `json:"error,omitempty"`
}

// failure is a [runtime.Error] on its way.
type failure struct {
	Kind   runtime.Kind `json:"kind"`
	Op     string       `json:"op,omitempty"`
	Object string       `json:"object,omitempty"`
	Text   string       `json:"text"`
}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Kind: runtime.KindOf(err), Text: bare(err)}
	var ours *runtime.Error
	if errors.As(err, &ours) {
		f.Op, f.Object = ours.Op, ours.Object
	}
	return f
}

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	return &runtime.Error{Kind: f.Kind, Op: f.Op, Object: f.Object, Err: errors.New(f.Text)}
}

// Serve is the helper's program: it does what the request in args[0] says and
// writes the answer to out. Its error says that there was no request.
func Serve(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("one request is expected; this command is run by Berth in a container of its own")
	}
	var req request
	if err := json.Unmarshal([]byte(args[0]), &req); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	var a answer
	a.Error = failureOf(a.carryOut(ctx, &req))
	return json.NewEncoder(out).Encode(a)
}

func (a *answer) carryOut(ctx context.Context, req *request) error {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer func() { _ = mounts.Close() }()
	t, err := findTree(req.Base, mounts)
	if err != nil {
		return err
	}
	l, err := newLocal(ctx, t, req.Driver, req.Owner, req.Rootless, DefaultKernelLog)
	if err != nil {
		return err
	}
	switch req.Op {
	case "check":
		return nil
	case "ensure":
		a.Report, err = l.ensure(ctx, req.Node, req.Limits)
	case "remove":
		err = l.remove(ctx, req.Node)
	case "list":
		a.Nodes, err = l.list(ctx)
	case "pressure":
		a.Pressure, err = l.pressures(ctx)
	default:
		err = fmt.Errorf("no operation is called %q", req.Op)
	}
	return err
}

// helper changes cgroups by a container that lives for one request.
type helper struct {
	engine  Engine
	program string // its file on this machine
	hash    string // its content's
	labels  map[string]string
	request request // what all requests have in common

	mu    sync.Mutex // protects what follows
	read  time.Time  // when the pressures were read
	ready map[string]runtime.Pressure
}

// fresh is how long a node's pressure may wait until it is asked for: a helper
// reads those of all nodes at once, and each answer is given out once.
const fresh = 5 * time.Second

// openHelper removes what earlier helpers left, and tries one.
func openHelper(ctx context.Context, cfg *Config) (*helper, error) {
	switch {
	case cfg.Program == "":
		return nil, errors.New("there is no program for it")
	case cfg.Info.Rootless:
		return nil, errors.New("a rootless engine's containers may not change cgroups")
	}
	hash, err := identify(cfg.Program)
	if err != nil {
		return nil, fmt.Errorf("the program for it: %w", err)
	}
	h := &helper{
		engine: cfg.Engine, program: cfg.Program, hash: hash, labels: runtime.HelperLabels(cfg.Owner),
		request: request{Driver: cfg.Info.CgroupDriver, Owner: cfg.Owner, Base: helperBase},
	}
	if err := h.sweep(ctx); err != nil {
		return nil, err
	}
	a, err := h.ask(ctx, "check", "", runtime.NodeLimits{})
	if err == nil && a.Error != nil {
		err = errors.New(a.Error.Text) // it will say the same when it is asked again
	}
	return h, err
}

// sweep removes the helpers that an earlier daemon left behind.
func (h *helper) sweep(ctx context.Context) error {
	list, err := h.engine.List(ctx, runtime.Filter{Labels: h.labels})
	if err != nil {
		return err
	}
	for i := range list {
		if err := h.engine.Remove(ctx, list[i].ID, true, true); err != nil && !runtime.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func (h *helper) ensure(ctx context.Context, node string, l runtime.NodeLimits) (report, error) {
	a, err := h.ask(ctx, "ensure", node, l)
	return a.Report, cmp.Or(err, a.Error.err())
}

func (h *helper) remove(ctx context.Context, node string) error {
	a, err := h.ask(ctx, "remove", node, runtime.NodeLimits{})
	return cmp.Or(err, a.Error.err())
}

func (h *helper) list(ctx context.Context) ([]string, error) {
	a, err := h.ask(ctx, "list", "", runtime.NodeLimits{})
	return a.Nodes, cmp.Or(err, a.Error.err())
}

func (h *helper) pressure(ctx context.Context, node string) (runtime.Pressure, error) {
	if p, ok := h.take(node); ok {
		return p, nil
	}
	a, err := h.ask(ctx, "pressure", node, runtime.NodeLimits{})
	if err = cmp.Or(err, a.Error.err()); err != nil {
		return runtime.Pressure{}, err
	}
	h.mu.Lock()
	h.ready, h.read = a.Pressure, time.Now() //nolint:forbidigo // how old an answer is decides nothing but whether to ask again
	h.mu.Unlock()
	if p, ok := h.take(node); ok {
		return p, nil
	}
	return runtime.Pressure{}, noCgroup(node)
}

func (h *helper) take(node string) (runtime.Pressure, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.ready[node]
	if !ok || time.Since(h.read) > fresh { //nolint:forbidigo // as above
		return runtime.Pressure{}, false
	}
	delete(h.ready, node)
	return p, true
}

// ask runs a helper for one request and returns its answer, which may hold an
// error; its own error says that there is no answer.
func (h *helper) ask(ctx context.Context, op, node string, l runtime.NodeLimits) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	req := h.request
	req.Op, req.Node, req.Limits = op, node, l
	text, err := json.Marshal(req)
	if err != nil {
		return answer{}, err
	}
	image, err := h.image(ctx)
	if err != nil {
		return answer{}, err
	}
	out, err := h.run(ctx, helperSpec(image, req.Driver, string(text)))
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		return answer{}, fmt.Errorf("read the helper's answer: %w", err)
	}
	return a, nil
}

// helperSpec is the helper's container: it sees the cgroups of the engine's
// machine, the kernel's log and systemd's socket, and nothing else of it.
func helperSpec(image, driver, request string) *runtime.Spec {
	spec := &runtime.Spec{
		Image: image, Entrypoint: []string{program}, Command: []string{HelperCommand, request},
		NetworkMode: "none", CgroupNS: "host", UsernsMode: "host", User: "0:0", ReadOnly: true,
		CapDrop: []string{"ALL"}, CapAdd: []string{"DAC_OVERRIDE", "SYSLOG"},
		SecurityOpt: []string{"label=disable", "no-new-privileges"},
		Mounts:      []runtime.Mount{{Type: runtime.MountBind, Source: DefaultBase, Target: helperBase}},
		Devices:     []runtime.Device{{Source: DefaultKernelLog, Permissions: "r"}},
		Logging:     &runtime.Logging{Driver: "json-file"},
		Limits:      runtime.Limits{Memory: 128 << 20, Pids: 64},
	}
	if driver == DriverSystemd {
		spec.Mounts = append(spec.Mounts, runtime.Mount{Type: runtime.MountBind, Source: systemSocket, Target: systemSocket})
	}
	return spec
}

// run runs a container to its end, returns what it wrote, and removes it whatever
// becomes of it.
func (h *helper) run(ctx context.Context, spec *runtime.Spec) ([]byte, error) {
	var tag [6]byte
	if _, err := rand.Read(tag[:]); err != nil {
		return nil, err
	}
	id, err := h.engine.Create(ctx, "berth-helper-"+hex.EncodeToString(tag[:]), h.labels, spec, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), helperTimeout)
		defer cancel()
		_ = h.engine.Remove(late, id, true, true) // one that stays is swept by the next daemon
	}()
	if err := h.engine.Start(ctx, id); err != nil {
		return nil, err
	}
	status, err := h.engine.Wait(ctx, id)
	if err != nil {
		return nil, err
	}
	var out, complaint limited
	if err := h.engine.Logs(ctx, id, runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true}, &out, &complaint); err != nil {
		return nil, err
	}
	if status.Code != 0 {
		return nil, fmt.Errorf("the helper ended with exit code %d: %s", status.Code, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.Bytes(), nil
}

// limited keeps the first [maxAnswer] bytes written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	room := max(0, maxAnswer-l.Len())
	_, _ = l.Buffer.Write(p[:min(room, len(p))]) // never fails
	return len(p), nil
}

// image returns the ID of the image that holds the program, and imports it where
// the engine does not have it.
func (h *helper) image(ctx context.Context) (string, error) {
	have, err := h.engine.Image(ctx, HelperImage)
	switch {
	case err == nil && have.Labels[hashLabel] == h.hash:
		return have.ID, nil
	case err != nil && !runtime.IsNotFound(err):
		return "", err
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(pack(w, h.program)) }() // never fails
	defer func() { _ = r.Close() }()                         // ends the packing, too
	id, err := h.engine.Import(ctx, HelperImage, map[string]string{hashLabel: h.hash, runtime.LabelHelper: "true"}, r)
	if err == nil && have.ID != "" && have.ID != id {
		_ = h.engine.RemoveImage(ctx, have.ID, false) // an older program's; one that is in use stays
	}
	return id, err
}

// pack writes an archive that holds the program alone.
func pack(out io.Writer, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(program, "/"), Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(w, f); err != nil {
		return err
	}
	return w.Close()
}

// identify returns the hash of a program, or why it cannot be a helper.
func identify(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if err := static(f); err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// static says why a program does not run in an empty image.
func static(f io.ReaderAt) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return errors.New("it is no program for Linux")
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is linked with shared libraries, which an empty image does not have; build it with CGO_ENABLED=0")
		}
	}
	return nil
}
