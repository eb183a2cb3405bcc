package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/berth-dev/berth/internal/api"
)

// Nodes lists the virtual nodes, in the order of their declaration.
func (c *Client) Nodes(ctx context.Context) ([]api.Node, error) {
	var list []api.Node
	return list, c.call(ctx, http.MethodGet, "/nodes", nil, &list)
}

// Node tells about one node. An unknown one is a NotFound error.
func (c *Client) Node(ctx context.Context, name string) (api.Node, error) {
	var n api.Node
	return n, c.call(ctx, http.MethodGet, nodePath(name), nil, &n)
}

// AddNode adds a node. One that is there already, or that is larger than what
// the engine has left, is an Invalid error.
func (c *Client) AddNode(ctx context.Context, req *api.NodeRequest) (api.Node, error) {
	var n api.Node
	return n, c.call(ctx, http.MethodPost, "/nodes", req, &n)
}

// RemoveNode removes a node that was added. One that replicas stand on is a
// Conflict error, which names them.
func (c *Client) RemoveNode(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, nodePath(name), nil, nil)
}

// ActOnNode cordons, uncordons, drains, fails or recovers a node, and returns it
// as it is right after: what follows from that has only begun.
func (c *Client) ActOnNode(ctx context.Context, name, action string, req api.NodeAction) (api.Node, error) {
	var n api.Node
	return n, c.call(ctx, http.MethodPost, nodePath(name, action), req, &n)
}

// Rebalance finds moves of replicas between nodes, and has the stacks carry
// them out unless only the plan is asked for.
func (c *Client) Rebalance(ctx context.Context, req api.Rebalance) (*api.Rebalanced, error) {
	out := &api.Rebalanced{}
	if err := c.call(ctx, http.MethodPost, "/rebalance", req, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Explain tells why a service's replicas are where and as they are: all of them,
// or with a slot above 0 that one.
func (c *Client) Explain(ctx context.Context, stack, service string, slot int) (*api.Explained, error) {
	path := stackPath(stack, "explain", service)
	if slot > 0 {
		path += "?" + url.Values{"slot": {strconv.Itoa(slot)}}.Encode()
	}
	out := &api.Explained{}
	if err := c.call(ctx, http.MethodGet, path, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

func nodePath(elements ...string) string {
	p := "/nodes"
	for _, e := range elements {
		p += "/" + url.PathEscape(e)
	}
	return p
}
