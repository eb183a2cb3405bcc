package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// requestSize is that of the page's raw requests, in bytes.
const requestSize = 100

// request asks for an answer of a size in bytes.
func request(size int) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(size)) //nolint:gosec // a constant of this program
}

// exchange is a connection on which one answer after the other is asked for.
type exchange struct {
	conn net.Conn
	out  []byte
	in   []byte
}

// dialRaw opens a connection whose answers have a size. A valid from is the address it comes from.
func dialRaw(ctx context.Context, to string, from netip.Addr, size int) (*exchange, error) {
	d := net.Dialer{Timeout: answerMost}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	out := make([]byte, requestSize)
	copy(out, request(size))
	return &exchange{conn: conn, out: out, in: make([]byte, size)}, nil
}

func (x *exchange) once() error {
	if _, err := x.conn.Write(x.out); err != nil {
		return err
	}
	_, err := io.ReadFull(x.conn, x.in)
	return err
}

// stream is what is asked for when throughput is measured.
type stream struct {
	conns int // at once
	size  int // bytes of an answer
	lasts time.Duration
	most  float64 // bytes a second; 0: as many as come
}

// pace is when each connection asks next: at once, or when it is due. What is late is
// asked for without a pause, so that only what cannot be carried stays out.
func (s stream) pace(ctx context.Context, begin time.Time, asked int) error {
	if s.most == 0 {
		return ctx.Err()
	}
	each := time.Duration(float64(s.conns*s.size) / s.most * float64(time.Second))
	return sleep(ctx, time.Until(begin.Add(time.Duration(asked)*each)))
}

// throughput is how many bytes a second come in answers, asked for on connections
// that go to the addresses in turn.
func throughput(ctx context.Context, to []string, s stream) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.lasts)
	defer cancel()
	var answers atomic.Int64
	var eg errgroup.Group
	open := make([]*exchange, s.conns)
	defer func() { closeAll(open) }()
	for i := range open {
		x, err := dialRaw(ctx, to[i%len(to)], netip.Addr{}, s.size)
		if err != nil {
			return 0, err
		}
		open[i] = x
	}
	begin := time.Now()
	for _, x := range open {
		eg.Go(func() error {
			for asked := 0; s.pace(ctx, begin, asked) == nil; asked++ {
				if err := x.once(); err != nil {
					return err
				}
				answers.Add(1)
			}
			return nil
		})
	}
	err := eg.Wait()
	return float64(answers.Load()) * float64(s.size) / time.Since(begin).Seconds(), err
}

// latency is the median of how long an answer takes that is as small as its request.
func latency(ctx context.Context, to string, n int) (time.Duration, error) {
	x, err := dialRaw(ctx, to, netip.Addr{}, requestSize)
	if err != nil {
		return 0, err
	}
	defer func() { _ = x.conn.Close() }()
	times := make([]time.Duration, n)
	for i := range times {
		if times[i], err = timed(x.once); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// sources are loopback addresses that clients come from: each has as many ports as
// the kernel gives, and a closed connection keeps its port for a minute.
const sources = 64

func source(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, 0, byte(1 + i%sources)}) } //nolint:gosec // at most 64

// hold opens n connections that have had one answer each. The caller closes them.
func hold(ctx context.Context, to string, n int) ([]*exchange, error) {
	open := make([]*exchange, n)
	err := each(ctx, n, abreastClients, func(ctx context.Context, i int) (err error) {
		if open[i], err = dialRaw(ctx, to, source(i), requestSize); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
		return open[i].once()
	})
	return open, err
}

func closeAll(open []*exchange) {
	for _, x := range open {
		if x != nil {
			_ = x.conn.Close()
		}
	}
}

// abreastClients is how many connections are being opened at a time.
const abreastClients = 16

// shortConnections opens n connections, each for one answer, and counts those that
// failed; the error is the first.
func shortConnections(ctx context.Context, to string, n int) (failed int, first error) {
	var mu sync.Mutex
	err := each(ctx, n, abreastClients, func(ctx context.Context, i int) error {
		if err := short(ctx, to, source(i)); err != nil {
			mu.Lock()
			defer mu.Unlock()
			failed++
			first = cmp.Or(first, err)
		}
		return ctx.Err()
	})
	if err != nil {
		return failed, err
	}
	return failed, first
}

func short(ctx context.Context, to string, from netip.Addr) error {
	x, err := dialRaw(ctx, to, from, requestSize)
	if err != nil {
		return err
	}
	return errors.Join(x.once(), x.conn.Close())
}

func medianOf(list []float64) float64 {
	s := slices.Clone(list)
	slices.Sort(s)
	return s[len(s)/2]
}
