// Command sleeper is the bench's workload: it waits until it is told to end.
// Given an address, it listens there too, writes when each connection came, in
// nanoseconds of the Unix time, and stops listening once it gets SIGUSR1.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	if len(os.Args) > 1 {
		if err := listen(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "sleeper:", err)
			os.Exit(1)
		}
	}
	<-stop
}

// listen answers at addr until SIGUSR1.
func listen(addr string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	deaf := make(chan os.Signal, 1)
	signal.Notify(deaf, syscall.SIGUSR1)
	go func() {
		<-deaf
		_ = l.Close()
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(os.Stdout, time.Now().UnixNano())
			_ = c.Close()
		}
	}()
	return nil
}
