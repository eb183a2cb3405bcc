package relay

import (
	"context"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/internal/balance"
)

// pool is the only one of a relay's balancer.
func pool() balance.Key { return balance.Key{Service: "relay"} }

// maxOpen bounds the TCP connections of all ports together, so that they fit into
// the memory that a relay's container has.
const maxOpen = 4096

// listenAgain is how often ports are tried that could not be listened at.
const listenAgain = time.Second

// Serve is the relay's program: it listens at the ports among args and obeys the
// orders that come from in, until ctx ends. The end of in does not end it. An error
// says that args make no sense.
func Serve(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	ports, err := frontends(args)
	if err != nil {
		return err
	}
	return serve(ctx, ports, in, out)
}

func serve(ctx context.Context, ports []balance.Frontend, in io.Reader, out io.Writer) error {
	r := &relay{changed: make(chan struct{}, 1)}
	r.b = balance.New(ctx, balance.Config{
		MaxOpen: max(1, maxOpen/len(ports)),
		Waiting: func(balance.Key) { r.tell() },
		Drained: func(balance.Key, string) { r.tell() },
	})
	r.b.Apply(ctx, ports)                                    // before anything is reported
	go func() { _, _ = io.Copy(&Lines{Each: r.obey}, in) }() // ends with the process, if not with in
	go r.report(ctx, out)
	r.listen(ctx, ports)
	<-ctx.Done()
	_ = r.b.Close(ctx) // connections were cut: whoever ends a relay has asked for it
	return nil
}

// relay is a balancer with one pool.
type relay struct {
	b       *balance.Balancer
	changed chan struct{} // capacity 1: there is something to report

	mu      sync.Mutex // protects all below
	last    uint64     // the last order that was carried out
	refused string     // why the last line was not carried out
}

// tell has the state reported. It never blocks.
func (r *relay) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// listen listens at the ports, and tries again until it does so at all.
func (r *relay) listen(ctx context.Context, ports []balance.Frontend) {
	all := func(list []balance.FrontendStatus) bool {
		return !slices.ContainsFunc(list, func(s balance.FrontendStatus) bool { return !s.Listening() })
	}
	for !all(r.b.Apply(ctx, ports)) {
		r.tell()
		select {
		case <-time.After(listenAgain):
		case <-ctx.Done():
			return
		}
	}
	r.tell()
}

// obey carries out an order.
func (r *relay) obey(line []byte) {
	defer r.tell()
	o, err := ParseOrder(line)
	if err == nil {
		err = r.b.Route(pool(), o.Routing.balance())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.refused = err.Error()
		return
	}
	r.last, r.refused = o.ID, ""
}

// reportEvery is how often the numbers of connections are told, where they change.
const reportEvery = time.Second

// report writes how the relay stands: at once when something has happened, and
// from time to time what has changed. While nobody takes it, it waits, and tells
// of the latest state then.
func (r *relay) report(ctx context.Context, out io.Writer) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var told Report
	for {
		happened := false
		select {
		case <-r.changed:
			happened = true
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := r.state()
		if !happened && reflect.DeepEqual(now, told) {
			continue
		}
		told = now
		line, err := Line(now)
		if err == nil {
			_, err = out.Write(line)
		}
		if err != nil {
			return
		}
	}
}

// state is how the relay stands.
func (r *relay) state() Report {
	r.mu.Lock()
	rep := Report{ID: r.last}
	troubles := []string{r.refused}
	r.mu.Unlock()
	for _, s := range r.b.Status() {
		if !s.Listening() {
			troubles = append(troubles, "port "+s.String()+" cannot be listened at: "+s.Reason)
		}
	}
	rep.Trouble = strings.Join(slices.DeleteFunc(troubles, func(s string) bool { return s == "" }), "; ")
	p, _ := r.b.Pool(pool())
	rep.Waiting, rep.Carries = p.Waiting, p.Connections
	for _, be := range p.Backends {
		rep.Backends = append(rep.Backends, Carried{ID: be.ID, Routed: be.Routed, Open: be.Open})
	}
	return rep
}
