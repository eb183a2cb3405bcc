// Package client is the Go client of the daemon's API, and starts a daemon
// where none runs.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// Client speaks to one daemon over its socket. Errors are *runtime.Error with
// the kind the daemon gave them; a daemon that does not answer is Unavailable.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client for the daemon at a socket. It does not connect yet.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 2}}}
}

// FollowOptions say from which turn on a stack is followed, and until when.
type FollowOptions struct {
	Turn  uint64
	Until string // "settled", "ready", or empty: until ctx ends
}

// Info tells who the daemon is.
func (c *Client) Info(ctx context.Context) (api.DaemonInfo, error) {
	var info api.DaemonInfo
	return info, c.call(ctx, http.MethodGet, "/info", nil, &info)
}

// Up declares a stack.
func (c *Client) Up(ctx context.Context, req *api.UpRequest) (api.Accepted, error) {
	var acc api.Accepted
	return acc, c.call(ctx, http.MethodPut, stackPath(req.Stack.Name), req, &acc)
}

// Plan tells what Up would change.
func (c *Client) Plan(ctx context.Context, req *api.UpRequest) (*reconcile.Plan, error) {
	plan := &reconcile.Plan{}
	if err := c.call(ctx, http.MethodPost, stackPath(req.Stack.Name, "plan"), req, plan); err != nil {
		return nil, err
	}
	return plan, nil
}

// Down takes a stack down. An unknown stack is a NotFound error.
func (c *Client) Down(ctx context.Context, stack string, req api.DownRequest) (api.Accepted, error) {
	var acc api.Accepted
	return acc, c.call(ctx, http.MethodPost, stackPath(stack, "down"), req, &acc)
}

// Act starts, stops, restarts, kills, pauses, unpauses, removes or scales services.
func (c *Client) Act(ctx context.Context, stack string, req api.ActionRequest) (api.Accepted, error) {
	var acc api.Accepted
	return acc, c.call(ctx, http.MethodPost, stackPath(stack, "actions"), req, &acc)
}

// Stacks lists the stacks the daemon keeps.
func (c *Client) Stacks(ctx context.Context) ([]api.Summary, error) {
	var list []api.Summary
	return list, c.call(ctx, http.MethodGet, "/stacks", nil, &list)
}

// Status tells what is desired of a stack and what the loop makes of it.
func (c *Client) Status(ctx context.Context, stack string) (*api.Status, error) {
	s := &api.Status{}
	if err := c.call(ctx, http.MethodGet, stackPath(stack), nil, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Known is [Client.Status] as of the daemon's last turn: it costs no look at the
// engine.
func (c *Client) Known(ctx context.Context, stack string) (*api.Status, error) {
	s := &api.Status{}
	if err := c.call(ctx, http.MethodGet, stackPath(stack)+"?look=no", nil, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Follow calls fn with a stack's events until it returns an error, the end is
// reached or ctx ends. It returns nil after the EventSettled asked for, which
// fn is given too.
func (c *Client) Follow(ctx context.Context, stack string, opts FollowOptions, fn func(api.Event) error) error {
	q := url.Values{"turn": {strconv.FormatUint(opts.Turn, 10)}, "until": {opts.Until}}
	res, err := c.send(ctx, http.MethodGet, stackPath(stack, "follow")+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	dec := json.NewDecoder(bufio.NewReader(res.Body))
	for {
		var e api.Event
		if err := dec.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &runtime.Error{Kind: runtime.KindUnavailable, Op: "follow", Object: stack, Err: fmt.Errorf("the daemon has ended (%w); run the command again", err)}
		}
		if err := fn(e); err != nil {
			return err
		}
		if e.Type == api.EventSettled {
			return nil
		}
	}
}

// CreateOneOff makes the container of a run.
func (c *Client) CreateOneOff(ctx context.Context, stack string, req *api.OneOffRequest) (api.OneOffCreated, error) {
	var created api.OneOffCreated
	return created, c.call(ctx, http.MethodPost, stackPath(stack, "oneoffs"), req, &created)
}

// StartOneOff starts it.
func (c *Client) StartOneOff(ctx context.Context, stack, name string) error {
	return c.call(ctx, http.MethodPost, stackPath(stack, "oneoffs", name, "start"), nil, nil)
}

// RemoveOneOff stops and removes it; timeout nil: the service's own grace.
func (c *Client) RemoveOneOff(ctx context.Context, stack, name string, timeout *time.Duration) error {
	return c.call(ctx, http.MethodPost, stackPath(stack, "oneoffs", name, "remove"), api.RemoveOneOffRequest{Timeout: timeout}, nil)
}

func stackPath(elements ...string) string {
	p := "/stacks"
	for _, e := range elements {
		p += "/" + url.PathEscape(e)
	}
	return p
}

// call sends a request and decodes the answer.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	res, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if into == nil {
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// send sends a request; an answer that is not a success is an error.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://berth/"+api.Version+path, payload)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, &runtime.Error{Kind: runtime.KindUnavailable, Op: "reach", Object: "the daemon at " + c.socket, Err: err}
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	return nil, failure(res)
}

func failure(res *http.Response) error {
	var e api.Error
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&e); err != nil || e.Message == "" {
		return &runtime.Error{Kind: runtime.KindUnavailable, Op: "ask", Object: "the daemon", Err: fmt.Errorf("it answered %s", res.Status)}
	}
	return &runtime.Error{Kind: e.Kind, Err: errors.New(e.Message)}
}
