package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// call url [period]: GET, each time on a connection of its own, each period (100 ms)
// until SIGTERM; prints the body, or "failed: " and why.
func call(args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("call needs a URL")
	}
	period, err := optionalDuration(args, 1)
	if err != nil {
		return 2, err
	}
	ctx, stop := terminated()
	defer stop()
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(max(period, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, nil
		case <-tick.C:
		}
		body, err := fetch(&c, args[0])
		if err != nil {
			fmt.Println("failed:", err)
			continue
		}
		fmt.Println(strings.TrimSpace(string(body)))
	}
}
