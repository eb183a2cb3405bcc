package relay

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/balance"
)

// split takes a stream apart that comes in pieces of n bytes.
func split(stream []byte, n int) []string {
	var got []string
	l := Lines{Each: func(line []byte) { got = append(got, string(line)) }}
	for piece := range slices.Chunk(stream, n) {
		_, _ = l.Write(piece) // never fails
	}
	return got
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine+1)
	for _, c := range []struct {
		stream string
		want   []string
	}{
		{"", nil},
		{"\n\n \r\n", nil},
		{"a\nb\n", []string{"a", "b"}},
		{"a\nb", []string{"a"}},
		{"cut o\na\n", []string{"cut o", "a"}},
		{long + "\na\n", []string{"a"}},
		{"a\n" + long + long + "\n" + long[1:] + "\nb\n", []string{"a", long[1:], "b"}},
	} {
		for _, n := range []int{1 << 22, 7, 4096} {
			if got := split([]byte(c.stream), n); !slices.Equal(got, c.want) {
				t.Errorf("%.20q in pieces of %d: %.40q, want %.40q", c.stream, n, got, c.want)
			}
		}
	}
}

var addrs = cmpopts.EquateComparable(netip.Addr{})

// TestOrdersArrive: whatever went before on the stream, and however it is cut up,
// an order arrives as it was sent.
func TestOrdersArrive(t *testing.T) {
	backend := rapid.Custom(func(t *rapid.T) Backend {
		ip := netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip"))).Unmap()
		return Backend{ID: rapid.String().Draw(t, "id"), Group: rapid.String().Draw(t, "group"), IP: ip}
	})
	rapid.Check(t, func(t *rapid.T) {
		want := Order{ID: rapid.Uint64().Draw(t, "id"), Routing: Routing{
			Policy: balance.Policy(rapid.String().Draw(t, "policy")), HeldMost: rapid.Int().Draw(t, "held"),
			HeldFor: time.Duration(rapid.Int64().Draw(t, "for")), Backends: rapid.SliceOf(backend).Draw(t, "backends"),
			Shares: rapid.MapOf(rapid.String(), rapid.Int()).Draw(t, "shares"),
		}}
		line, err := Line(want)
		if err != nil {
			t.Fatal(err)
		}
		before := rapid.SampledFrom([]string{"", "{\"id\":1,\"rou", "\n", "garbage"}).Draw(t, "before")
		lines := split(append([]byte(before), line...), rapid.IntRange(1, 100).Draw(t, "piece"))
		got, err := ParseOrder([]byte(lines[len(lines)-1]))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, addrs, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal("sent and received (-sent +got)\n" + diff)
		}
		for _, line := range lines[:len(lines)-1] {
			if o, err := ParseOrder([]byte(line)); err == nil {
				t.Fatalf("%q was taken for the order %v", line, o)
			}
		}
	})
}

// FuzzFeed: no stream breaks a relay or the one who reads its reports, and after
// whatever nonsense the next order is carried out.
func FuzzFeed(f *testing.F) {
	f.Add([]byte(`{"id":3,"routing":{"backends":[{"id":"a","ip":"10.0.0.1"},{"id":"a","ip":"10.0.0.1"}]}}` + "\n"))
	f.Add([]byte(`{"id":3,"routing":{"shares":{"a":-1}}}` + "\n"))
	f.Add([]byte(`{"id":-3}` + "\n{}\nnull\n[]\n"))
	f.Add([]byte(`{"id":3,"routing":{"policy":"x","heldFor":-1}`))
	f.Fuzz(func(t *testing.T, before []byte) {
		r := &relay{changed: make(chan struct{}, 1)}
		r.b = balance.New(t.Context(), balance.Config{})
		feed := Lines{Each: r.obey}
		_, _ = feed.Write(before) // never fails
		line, err := Line(Order{ID: 77, Routing: Routing{Backends: []Backend{{ID: "web-1", IP: netip.MustParseAddr("10.0.0.1")}}}})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = feed.Write(line) // as above
		got := r.state()
		if got.ID != 77 || got.Trouble != "" || len(got.Backends) != 1 || !got.Backends[0].Routed {
			t.Fatalf("after %q and a good order: %+v", before, got)
		}
		if line, err = Line(got); err != nil {
			t.Fatal(err)
		}
		back, err := ParseReport(bytes.TrimSpace(line))
		if diff := cmp.Diff(got, back); err != nil || diff != "" {
			t.Fatalf("a report came back (%v)\n%s", err, diff)
		}
		_, _ = ParseReport(before) // must not panic
	})
}

func TestFrontends(t *testing.T) {
	got, err := frontends([]string{"53/udp", "80/tcp"})
	if text := fmt.Sprint(got); err != nil || text != "[:53/udp :80/tcp]" {
		t.Errorf("%s is listened at, error %v", text, err)
	}
	for _, args := range [][]string{{}, {"80"}, {"80/sctp"}, {"0/tcp"}, {"65536/tcp"}, {"x/tcp"}, {"80/tcp", ""}} {
		if got, err := frontends(args); err == nil || !strings.Contains(err.Error(), usage) {
			t.Errorf("%q: %v, %v", args, got, err)
		}
	}
}
