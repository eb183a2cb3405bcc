package inside

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	cases := map[string]struct {
		want proc
		ok   bool
	}{
		"7 (sleep) S 3 7 5 0 -1 4194560":         {proc{parent: 3, session: 5}, true},
		"7 (a) Z) 9 9 (x) R 3 7 5 0 -1":          {proc{parent: 3, session: 5}, true},
		"7 (dead) Z 3 7 5 0 -1":                  {},
		"7 (cut) S 3":                            {},
		"":                                       {},
		"7 (odd) S three 7 5 0":                  {},
		"7 (name with\nline) D 1 7 7 34816 7 40": {proc{parent: 1, session: 7}, true},
	}
	for in, c := range cases {
		if got, ok := parseStat(in); got != c.want || ok != c.ok {
			t.Errorf("%q: %+v, %t; want %+v, %t", in, got, ok, c.want, c.ok)
		}
	}
}

// A tree is ended with the child that left its session, and nothing else is.
func TestKillEndsAMarkedTree(t *testing.T) {
	sh := func(script string, env ...string) (*exec.Cmd, *bufio.Scanner) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, bufio.NewScanner(out)
	}
	const entry = "BERTH_TEST_MARK=inside"
	tree, lines := sh("(setsid sleep 1000 &) ; sleep 1000 & echo up; wait", entry)
	other, others := sh("echo up; exec sleep 1000", entry+"more")
	if !lines.Scan() || !others.Scan() {
		t.Fatal("the processes did not come up")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := kill(ctx, 0, entry, func(int) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() { // its end is the end of all who held the pipe
		t.Errorf("read %q", lines.Text())
	}
	_ = tree.Wait() // it was killed
	if left, err := family(other.Process.Pid, "", func(int) bool { return true }); err != nil || len(left) == 0 {
		t.Errorf("another process was ended as well: %v, %v", left, err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = other.Wait() // as above
}

// What is not the container's is never touched.
func TestKillKeepsToTheContainer(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := Kill(t.Context(), strings.Repeat("0", 64), cmd.Process.Pid, "NONE=1"); err != nil {
		t.Fatal(err)
	}
	if left, err := family(cmd.Process.Pid, "", func(int) bool { return true }); err != nil || len(left) != 1 {
		t.Errorf("%v, %v; want the process", left, err)
	}
	_ = cmd.Process.Kill() // it runs, as just seen
	_ = cmd.Wait()
	if belongs(os.Getpid(), "") {
		t.Error("an empty ID is a container")
	}
	if _, err := Dial(t.Context(), strings.Repeat("0", 64), os.Getpid(), "127.0.0.1:1"); !errors.Is(err, ErrGone) {
		t.Errorf("Dial: %v; want ErrGone", err)
	}
}

// A helper tells that it runs, whether it connected, and passes bytes both ways.
func TestRelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		_, _ = c.Write([]byte("echo " + line))
		_ = c.Close()
	}()
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- Serve(t.Context(), []string{doDial, l.Addr().String()}, theirs, theirs)
		_ = theirs.Close()
	}()
	c := &conn{Conn: ours, r: bufio.NewReader(ours), cancel: func() {}}
	if state, why := c.opening(); state != reached {
		t.Fatalf("%c %s", state, why)
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "echo hello\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = l.Close() // it served
	var out strings.Builder
	if err := Serve(t.Context(), []string{doDial, l.Addr().String()}, strings.NewReader(""), &out); err != nil || !strings.HasPrefix(out.String(), "~-") || !strings.Contains(out.String(), "refused") {
		t.Errorf("a closed port: %q, %v", out.String(), err)
	}
	if err := Serve(t.Context(), []string{"other"}, nil, nil); err == nil {
		t.Error("an unknown request has no error")
	}
}
