// Command app is the shop's web application. serve answers on :8080, migrate
// makes the tables, report prints the number of orders by state, and check is
// the healthcheck: it asks the running application, which asks both servers.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/berth-dev/berth/compose-examples/shop/orders"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: app serve|migrate|report|check")
	}
	if args[0] == "check" {
		return check(ctx)
	}
	shop, err := orders.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = shop.Close() }()
	switch args[0] {
	case "serve":
		settings, err := readSettings("/run/config/shop.json")
		if err != nil {
			return err
		}
		return serve(ctx, newWeb(shop, settings))
	case "migrate":
		return shop.Migrate(ctx)
	case "report":
		return report(ctx, shop)
	default:
		return fmt.Errorf("unknown command %q: one of serve, migrate, report, check", args[0])
	}
}

func report(ctx context.Context, shop *orders.Shop) error {
	counts, err := shop.Counts(ctx)
	if err != nil {
		return err
	}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("%s\t%d\n", state, counts[state])
	}
	return nil
}

func serve(ctx context.Context, handler http.Handler) error {
	server := &http.Server{Addr: ":8080", Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Print("listening on :8080")
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

func check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8080/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz answered %s", resp.Status)
	}
	return nil
}
