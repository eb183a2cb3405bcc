//go:build unix

package health

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// proberProcess probes the address in its environment by eight replicas, and
// prints each verdict. It ends with its parent's pipe.
func proberProcess() {
	spec := Probes{Liveness: &Probe{HTTP: &HTTP{}, Period: time.Second, FailureThreshold: 1}}
	var p *Prober
	p = New(Config{
		Checks: &Checkers{}, Gap: 500 * time.Millisecond, Mass: Mass{AtLeast: 100}, // only the gap may save them
		Notify: func(key string) {
			st, _ := p.Status(key)
			if v := st.Verdict(spec); v.Role != "" {
				fmt.Println("verdict", key, v.Reason)
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		cancel()
	}()
	for i := range 8 {
		p.Set(fmt.Sprint(i), Target{
			Container: fmt.Sprint(i), State: runtime.Running, Started: time.Now(),
			Routes: map[Role]Route{Liveness: {Way: ByAddress, Address: os.Getenv("BERTH_HEALTH_ADDRESS")}},
		}, spec)
	}
	_ = p.Run(ctx)
	for i := range 8 {
		st, _ := p.Status(fmt.Sprint(i))
		fmt.Println("end", i, st.Liveness.State, len(st.Liveness.Results))
	}
}

// Fault 7: a process that was stopped blames nobody for what it missed: probes
// that were in flight end long after their time, and their failures do not add
// up to those from before.
func TestStoppedProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	answering := raw(t, func(c net.Conn) { // most of the time a probe is in flight
		time.Sleep(700 * time.Millisecond)
		answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(c)
	})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"=prober", "BERTH_HEALTH_ADDRESS="+answering)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // each stop is longer than a period and its timeout
		time.Sleep(1300 * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(2500 * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGCONT)
	}
	time.Sleep(1500 * time.Millisecond)
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if got := out.String(); strings.Contains(got, "verdict") || strings.Count(got, " success ") != 8 {
		t.Errorf("the stopped prober says:\n%s", got)
	}
}
