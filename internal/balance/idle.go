package balance

import (
	"sync/atomic"
	"time"
)

// activity is when a connection last carried something, and which way. One word
// holds both, so that the two ways need no lock.
//
// A piece is noted after it was read and before it is written, and again once it is
// written, unless another was noted since. So whoever answers to a piece, the client
// or the server, does so after it was noted, and a later question is never taken for
// answered.
type activity struct {
	began time.Time
	word  atomic.Int64 // nanoseconds since then, above the bits
}

// The bits of activity's word.
const (
	bitAnswer = 1 << iota // the last piece was to the client
	bitInHand             // it is being written
	wordShift = iota
)

// begin notes that a piece is about to be written, to the client or from it.
func (a *activity) begin(toClient bool) (piece int64) {
	piece = a.now() | bitInHand
	if toClient {
		piece |= bitAnswer
	}
	a.word.Store(piece)
	return piece
}

// end notes that a piece was written.
func (a *activity) end(piece int64) {
	a.word.CompareAndSwap(piece, a.now()|piece&bitAnswer)
}

func (a *activity) now() int64 { return int64(time.Since(a.began)) << wordShift }

// answered reports for how long nothing was carried after an answer; ok is false
// while an answer is being written, or the last was the client's: its answer is
// still to come.
func (a *activity) answered(now time.Time) (quiet time.Duration, ok bool) {
	word := a.word.Load()
	return now.Sub(a.began) - time.Duration(word>>wordShift), word&(bitAnswer|bitInHand) == bitAnswer
}

// closeIdle ends the connections to backends that are no longer routed, each once
// nothing was carried for a while after an answer, as a client keeps it for later
// requests. It goes on until no such backend has a connection.
func (p *pool) closeIdle() {
	const looks = 4 // within the time
	for {
		p.mu.Lock()
		after, changed := p.drainIdle, p.changed
		list, left := p.idleLocked(after, time.Now())
		if !left || after == 0 {
			p.closing = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		for _, r := range list {
			r.farewell()
		}
		if p.b.connecting.Err() != nil {
			return
		}
		pause(p.b.connecting, max(after/looks, time.Millisecond), changed)
	}
}

// idleLocked lists the connections that may end, and whether any is left that is
// to; p.mu is held.
func (p *pool) idleLocked(after time.Duration, now time.Time) (list []*relay, left bool) {
	for _, be := range p.backends {
		if be.Routed {
			continue
		}
		for l := range be.links {
			r, ok := l.(*relay)
			if !ok {
				continue // a session ends by itself
			}
			left = true
			if quiet, answered := r.active.answered(now); answered && quiet >= after {
				list = append(list, r)
			}
		}
	}
	return list, left
}

// watchIdleLocked begins to end idle connections where there is reason to; p.mu is
// held.
func (p *pool) watchIdleLocked() {
	if p.closing || p.drainIdle == 0 {
		return
	}
	if _, left := p.idleLocked(p.drainIdle, time.Now()); left {
		p.closing = true
		p.b.running.Go(p.closeIdle)
	}
}

// farewell tells the client that nothing more will come. Its own end follows.
func (r *relay) farewell() {
	_ = r.c.conn.CloseWrite() // whatever is wrong with it, the other way finds out
}
