package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// How many clients ask for a page at once, half of them on connections that they
// keep and half each time on a new one; how often each asks; and how long it waits
// for a connection and for an answer. Between two requests of one connection lies
// more than the drainIdle of [rolling]: one that is asked more often keeps its
// replica until the drain is over.
const (
	clients     = 64
	pace        = 100 * time.Millisecond
	connectMost = time.Second
	answerMost  = 10 * time.Second
)

// load is a constant load on a page.
type load struct {
	stop func()
	done sync.WaitGroup

	mu      sync.Mutex // protects all below
	asked   int
	failed  int
	example error // of a failed request
}

// ask puts a page under load until finish is called. next says where the next
// request goes.
func ask(ctx context.Context, next func() string) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop}
	dial := (&net.Dialer{Timeout: connectMost}).DialContext
	for i := range clients {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0, DialContext: dial}, Timeout: answerMost}
		l.done.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for ctx.Err() == nil {
				_, err := get(context.WithoutCancel(ctx), client, next())
				l.note(err)
				<-tick.C
			}
		})
	}
	return l
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if err != nil {
		l.failed++
		l.example = err
	}
}

// finish ends the load and waits for the last answers.
func (l *load) finish() {
	l.stop()
	l.done.Wait()
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", url, res.StatusCode, body)
	}
	return string(body), err
}
