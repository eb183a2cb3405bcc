package docker

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

func eventJSON(at time.Time, action string) string {
	return fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":"c1","Attributes":{"name":"web"}},"time":%d,"timeNano":%d}`+"\n", action, at.Unix(), at.UnixNano())
}

func receive(t *testing.T, ch <-chan runtime.Event) runtime.Event {
	t.Helper()
	select {
	case ev, ok := <-ch:
		if !ok {
			t.Fatal("closed")
		}
		return ev
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
	}
	return runtime.Event{}
}

func send(w http.ResponseWriter, text string) {
	_, _ = w.Write([]byte(text)) // the client may be gone
	_ = http.NewResponseController(w).Flush()
}

// A broken stream is resumed with overlap, and the reader is told to list again.
func TestEventsResume(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 123)
	var since atomic.Value
	s := serve(t, "1.41", map[string]http.HandlerFunc{"GET /events": inTurn(
		func(w http.ResponseWriter, _ *http.Request) { send(w, eventJSON(t0, "start")) },
		breaks,
		func(w http.ResponseWriter, r *http.Request) {
			since.Store(r.URL.Query().Get("since"))
			send(w, eventJSON(t0.Add(time.Second), "die"))
			hangs(w, r)
		},
	)})
	e := s.open(t, Timeouts{})
	events := e.Events(t.Context(), time.Time{}, runtime.Filter{Labels: map[string]string{"a": "b"}})
	if ev := receive(t, events); ev.Action != "start" || ev.Name != "web" || ev.ID != "c1" || !ev.Time.Equal(t0) {
		t.Fatalf("%+v", ev)
	}
	for resyncs := 0; ; {
		ev := receive(t, events)
		if ev.Type == "resync" {
			resyncs++
			continue
		}
		if ev.Action != "die" || resyncs == 0 {
			t.Fatalf("%+v after %d resyncs", ev, resyncs)
		}
		break
	}
	if got := fmt.Sprint(since.Load()); !strings.HasPrefix(got, "169999999") {
		t.Errorf("resumed since %s, want two or four seconds before the last event", got)
	}
}

// A stream that stands but brings nothing while the engine has news is given up.
func TestEventsSilent(t *testing.T) {
	t0 := time.Now().Add(-time.Minute)
	stream := inTurn(
		func(w http.ResponseWriter, r *http.Request) { send(w, eventJSON(t0, "start")); hangs(w, r) },
		func(w http.ResponseWriter, r *http.Request) {
			send(w, eventJSON(t0.Add(time.Second), "die"))
			hangs(w, r)
		},
	)
	s := serve(t, "1.41", map[string]http.HandlerFunc{"GET /events": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("until") != "" {
			send(w, eventJSON(t0.Add(time.Second), "die"))
			return
		}
		stream(w, r)
	}})
	events := s.open(t, Timeouts{Silence: 50 * time.Millisecond}).Events(t.Context(), time.Time{}, runtime.Filter{})
	for _, want := range []string{"start", "resync", "die"} {
		if ev := receive(t, events); ev.Action != want {
			t.Fatalf("%+v, want %s", ev, want)
		}
	}
}

// A stream that is merely quiet is left alone.
func TestEventsQuiet(t *testing.T) {
	release := make(chan struct{})
	var checks atomic.Int32
	s := serve(t, "1.41", map[string]http.HandlerFunc{"GET /events": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("until") != "" {
			if checks.Add(1) == 3 {
				close(release)
			}
			return
		}
		send(w, eventJSON(time.Now(), "start"))
		<-release
		send(w, eventJSON(time.Now(), "die"))
		hangs(w, r)
	}})
	events := s.open(t, Timeouts{Silence: 20 * time.Millisecond}).Events(t.Context(), time.Time{}, runtime.Filter{})
	for _, want := range []string{"start", "die"} {
		if ev := receive(t, events); ev.Action != want {
			t.Fatalf("%+v, want %s", ev, want)
		}
	}
}

// A reader that does not read is told to list again, and holds nobody up.
func TestEventsSlowReader(t *testing.T) {
	w := &watch{}
	for range backlogMax {
		w.queue(runtime.Event{Type: "container"})
	}
	if len(w.backlog) != backlogMax || w.backlog[0].Type != "container" {
		t.Fatalf("%d events wait", len(w.backlog))
	}
	w.queue(runtime.Event{Type: "container", Time: time.Unix(1, 0)})
	if len(w.backlog) != 1 || w.backlog[0].Type != "resync" {
		t.Fatalf("%d events wait, the first is %+v", len(w.backlog), w.backlog[0])
	}
	w.queue(runtime.Event{Type: "container"})
	if len(w.backlog) != 2 {
		t.Errorf("%d events wait after a resync", len(w.backlog))
	}
}
