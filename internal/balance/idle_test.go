package balance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// While a backend drains, a connection that has had its answer is ended after a
// quiet while, and one whose answer is still to come goes on until it has it.
func TestIdleConnectionsEndWhileDraining(t *testing.T) {
	drained := make(chan string, 1)
	b := newBalancer(t, Config{Drained: func(_ Key, id string) { drained <- id }})
	answer := make(chan struct{})
	slow := serve(t, "a", func(conn *net.TCPConn) {
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "slow\n" {
				<-answer
			}
			_, _ = fmt.Fprintf(conn, "a %s", line)
		}
	})
	route(t, b, Routing{Backends: []Backend{slow.backend()}})
	addr := listen(t, b, TCP)
	idle, busy := dial(t, addr), dial(t, addr)
	for _, conn := range []net.Conn{idle, busy} {
		if name, err := ask(conn); name != "a" || err != nil {
			t.Fatal(name, err)
		}
	}
	before := poolStatus(t, b).BytesIn
	if _, err := busy.Write([]byte("slow\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the question is carried", func() bool { return poolStatus(t, b).BytesIn > before })

	route(t, b, Routing{DrainIdle: 30 * time.Millisecond})
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection ended with %v", err)
	}
	_ = idle.Close()
	eventually(t, "one connection is left", func() bool {
		s, ok := b.Backend(web, "a")
		return ok && s.Open == 1
	})
	close(answer)
	line, err := bufio.NewReader(busy).ReadString('\n')
	if err != nil || line != "a slow\n" {
		t.Errorf("the busy connection had the answer %q, %v", line, err)
	}
	if _, err := busy.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("once it had its answer it ended with %v", err)
	}
	_ = busy.Close()
	if id := <-drained; id != "a" {
		t.Errorf("%s was drained", id)
	}
}

// Without a limit a connection that nobody uses is left to its client.
func TestIdleConnectionsStayWithoutALimit(t *testing.T) {
	b := newBalancer(t, Config{})
	s := serve(t, "a", nil)
	route(t, b, Routing{Backends: []Backend{s.backend()}})
	conn := dial(t, listen(t, b, TCP))
	if name, err := ask(conn); name != "a" || err != nil {
		t.Fatal(name, err)
	}
	route(t, b, Routing{})
	if name, err := ask(conn); name != "a" || err != nil {
		t.Errorf("the connection broke: %s, %v", name, err)
	}
}

// A question counts as asked although the noting of the answer before it ends
// late, and an answer as under way until it is written.
func TestActivityOrder(t *testing.T) {
	now := time.Now()
	a := activity{began: now.Add(-time.Minute)}
	a.end(a.begin(true))
	if quiet, ok := a.answered(now.Add(time.Minute)); !ok || quiet < time.Second {
		t.Errorf("after an answer: quiet for %s, %t", quiet, ok)
	}
	answer := a.begin(true)
	if _, ok := a.answered(time.Now()); ok {
		t.Error("an answer that is being written is taken for an end")
	}
	question := a.begin(false)
	a.end(answer)
	if _, ok := a.answered(time.Now()); ok {
		t.Error("a question is taken for answered by the answer before it")
	}
	a.end(question)
	if _, ok := a.answered(time.Now()); ok {
		t.Error("a question that was passed on is taken for answered")
	}
	a.end(a.begin(true))
	if _, ok := a.answered(time.Now()); !ok {
		t.Error("an answer is not seen")
	}
}
