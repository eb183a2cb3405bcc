package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"time"
)

// acceptLook is how often it is tried whether somebody listens.
const acceptLook = time.Millisecond

var dialer = net.Dialer{Timeout: connectMost}

// restart measures for how long a published port is away when the daemon is killed:
// from the start of the next one until the port accepts, and until it answers.
func (b *bench) restart(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	dir, err := b.stack(ctx, "bench-restart", fmt.Sprintf(balanced, port))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
		return err
	}
	var accepted, answered []time.Duration
	if err := b.repeat(func() error {
		a, w, err := b.restartOnce(ctx, loopback(port))
		accepted, answered = append(accepted, a), append(answered, w)
		return err
	}); err != nil {
		return err
	}
	b.print(row{name: "killed daemon: its port accepts", floor: "–", berth: millis(median(accepted)), ratio: "–", target: "≤ 200 ms", runs: fmt.Sprint(len(accepted))})
	b.print(row{name: "  and answers", floor: "–", berth: millis(median(answered)), ratio: "–", target: "–", runs: fmt.Sprint(len(answered))})
	_, err = b.berth(ctx, dir, "down", "-t", "0")
	return err
}

// restartOnce kills the daemon and starts another, which stays.
func (b *bench) restartOnce(ctx context.Context, to string) (accepted, answered time.Duration, err error) {
	pid, err := b.daemonPID(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return 0, 0, err
	}
	if err := refuses(ctx, to); err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), b.opts.berth, "serve", "--log-level", "error") // #nosec G204 -- the binary under test, which is still needed to take the stack down
	cmd.Dir, cmd.Env = b.dir, b.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is the bench's
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	go func() { _ = cmd.Wait() }() // killed by the next run, or ended by stopDaemon
	if err := accepts(ctx, to); err != nil {
		return 0, 0, err
	}
	accepted = time.Since(begin)
	err = short(ctx, to, netip.Addr{})
	return accepted, time.Since(begin), err
}

// refuses waits until nobody listens any more.
func refuses(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, acceptsMost)
	defer cancel()
	for {
		conn, err := dialer.DialContext(ctx, "tcp", to)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		if err != nil && !errors.Is(err, syscall.ECONNRESET) { // that was in the queue of the one that was killed
			return err
		}
		if err == nil {
			_ = conn.Close()
		}
		if err := sleep(ctx, acceptLook); err != nil {
			return fmt.Errorf("%s still accepts: %w", to, err)
		}
	}
}
