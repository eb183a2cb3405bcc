// Command worker ships the shop's orders, one at a time, until it is asked to
// stop; the order at hand is finished first.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/berth-dev/berth/compose-examples/shop/orders"
)

const (
	waitForOrder = 2 * time.Second  // how long a look at the queue takes, and so a stop
	forgotten    = 15 * time.Second // a new order this old is queued again
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	// A stop ends the loop, never an order half way.
	work := context.WithoutCancel(ctx)
	shop, err := orders.Open(work)
	if err != nil {
		return err
	}
	defer func() { _ = shop.Close() }()
	log.Print("waiting for orders")
	for swept := time.Now(); ctx.Err() == nil; {
		if time.Since(swept) >= forgotten {
			n, err := shop.Requeue(work, forgotten)
			if err != nil {
				return err
			}
			if n > 0 {
				log.Printf("queued %d forgotten orders again", n)
			}
			swept = time.Now()
		}
		id, err := shop.Ship(work, waitForOrder)
		switch {
		case errors.Is(err, orders.ErrEmpty):
		case err != nil:
			return err
		default:
			log.Printf("shipped order %d", id)
		}
	}
	log.Print("asked to stop")
	return nil
}
