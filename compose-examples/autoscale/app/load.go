package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of a load.
const (
	mostRPS     = 10_000
	mostAtOnce  = 200 // requests; those that come then are left out and counted
	requestTime = 30 * time.Second
)

func runLoad(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	url := flags.String("url", "", "page to ask for")
	rps := flags.Int("rps", 10, "requests a second")
	length := flags.Duration("for", time.Minute, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *url == "":
		return errors.New("--url is missing\n" + usage)
	case *rps < 1 || *rps > mostRPS:
		return fmt.Errorf("--rps %d is not between 1 and %d", *rps, mostRPS)
	case *length <= 0:
		return fmt.Errorf("--for %s is not more than nothing", *length)
	}
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	t := load(ctx, *url, time.Second/time.Duration(*rps))
	fmt.Println(t.String())
	if len(t.took) == 0 {
		return fmt.Errorf("no request was answered: %s", t.last)
	}
	return nil
}

// tally is what came of a load.
type tally struct {
	mu      sync.Mutex // protects all below
	took    []time.Duration
	by      map[string]int // replicas
	failed  int
	last    string // why one has failed
	leftOut int
}

// load asks for a page at every interval, whether or not the last one has been
// answered, until ctx ends. Each request has a connection of its own, so that it
// may reach any replica.
func load(ctx context.Context, url string, every time.Duration) *tally {
	client := &http.Client{Timeout: requestTime, Transport: &http.Transport{DisableKeepAlives: true}}
	t := &tally{by: map[string]int{}}
	var all sync.WaitGroup
	slots := make(chan struct{}, mostAtOnce)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			all.Wait()
			return t
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
			all.Go(func() {
				t.ask(context.WithoutCancel(ctx), client, url) // what was begun is waited for
				<-slots
			})
		default:
			t.mu.Lock()
			t.leftOut++
			t.mu.Unlock()
		}
	}
}

func (t *tally) ask(ctx context.Context, client *http.Client, url string) {
	begin := time.Now()
	replica, err := page(ctx, client, url)
	took := time.Since(begin)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed++
		t.last = err.Error()
		fmt.Fprintln(os.Stderr, "app:", err)
		return
	}
	t.took = append(t.took, took)
	t.by[replica]++
}

// page asks once, and returns who has answered.
func page(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	switch {
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%s: %s", url, resp.Status)
	case err != nil:
		return "", fmt.Errorf("%s: %w", url, err)
	}
	return strings.TrimSpace(line), nil
}

// String sums the load up in one line.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.Sort(t.took)
	text := fmt.Sprintf("%d served, %d failed, replicas %d", len(t.took), t.failed, len(t.by))
	if t.leftOut > 0 {
		text += fmt.Sprintf(", %d left out", t.leftOut)
	}
	if n := len(t.took); n > 0 {
		text += fmt.Sprintf(", p50 %s, p99 %s", t.took[n/2].Round(time.Millisecond), t.took[n*99/100].Round(time.Millisecond))
	}
	return text
}
