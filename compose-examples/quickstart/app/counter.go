package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

// counter keeps one number in a file, so that it outlives its container.
type counter struct {
	path string

	mu sync.Mutex // protects n and the file
	n  int
}

func openCounter(path string) (*counter, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &counter{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the counter: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return nil, fmt.Errorf("read the counter from %s: %w", path, err)
	}
	return &counter{path: path, n: n}, nil
}

// ServeHTTP answers POST /visits with the new number, GET /visits with the last.
func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/visits" {
		http.NotFound(w, r)
		return
	}
	n, err := c.count(r.Method == http.MethodPost)
	if err != nil {
		log.Print(err)
		http.Error(w, "the count could not be kept", http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintln(w, n)
}

func (c *counter) count(visit bool) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !visit {
		return c.n, nil
	}
	// A new file takes the old one's place whole: a kill leaves one of the two.
	next := c.path + ".next"
	if err := os.WriteFile(next, []byte(strconv.Itoa(c.n+1)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("keep the counter: %w", err)
	}
	if err := os.Rename(next, c.path); err != nil {
		return 0, fmt.Errorf("keep the counter: %w", err)
	}
	c.n++
	return c.n, nil
}
