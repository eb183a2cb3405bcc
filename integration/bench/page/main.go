// Command page is the workload of the rows that have clients. At :8080 it serves
// HTTP: its version, and /readyz. At :7000 it answers requests of 100 bytes, the
// first four of which are the size of the answer in bytes, big endian.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	requestSize = 100
	answerMost  = 1 << 20
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var lc net.ListenConfig
	raw, err := lc.Listen(ctx, "tcp", ":7000")
	if err != nil {
		return err
	}
	l, err := lc.Listen(ctx, "tcp", ":8080")
	if err != nil {
		return err
	}
	go answerAll(raw)
	return serve(ctx, l)
}

// serve serves the page until ctx ends, and what it was asked by then.
func serve(ctx context.Context, l net.Listener) error {
	version := os.Getenv("VERSION")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, version) })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return srv.Shutdown(closing)
}

func answerAll(l net.Listener) {
	out := make([]byte, answerMost)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go answer(c, out)
		}
	}
}

// answer serves one connection until its client ends it.
func answer(c net.Conn, out []byte) {
	defer func() { _ = c.Close() }()
	request := make([]byte, requestSize)
	for {
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		size := min(binary.BigEndian.Uint32(request), answerMost)
		if _, err := c.Write(out[:size]); err != nil {
			return
		}
	}
}
