package scheduler_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-dev/berth/scheduler"
)

// A batch places by priority, then by size, and reports what that gains.
func TestScheduleBatch(t *testing.T) {
	three := []scheduler.Node{node("a", 10), node("b", 10), node("c", 10)}
	tests := []struct {
		name   string
		policy scheduler.Policy
		sizes  []int64 // in tenths of a node
		urgent int     // index of the request of higher priority; 0: none
		want   scheduler.Batch
		homes  string // of each request
	}{
		{
			name: "the large ones first", policy: scheduler.Policy{Strategy: scheduler.StrategyBinpack},
			sizes: []int64{3, 3, 7, 7},
			want:  scheduler.Batch{InUse: 2, InUseInOrder: 3}, homes: "a b a b",
		},
		{
			name: "more are placed", policy: scheduler.Policy{},
			sizes: []int64{4, 4, 4, 6, 6, 8},
			want:  scheduler.Batch{Unplaced: 1, InUse: 3, UnplacedInOrder: 1, InUseInOrder: 3}, homes: "b c - b c a",
		},
		{
			name: "those of higher priority before the large ones", policy: scheduler.Policy{Strategy: scheduler.StrategyBinpack},
			sizes: []int64{10, 10, 10, 1}, urgent: 3,
			want: scheduler.Batch{Unplaced: 1, InUse: 3, UnplacedInOrder: 1, InUseInOrder: 3}, homes: "b c - a",
		},
		{
			name: "the order given where the large ones first is worse", policy: scheduler.Policy{Strategy: scheduler.StrategyBinpack},
			sizes: []int64{4, 3, 3, 4, 3, 3},
			want:  scheduler.Batch{InUse: 2, InUseInOrder: 2}, homes: "a a a b b b",
		},
		{name: "nothing", want: scheduler.Batch{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.policy, three...)
			var requests []scheduler.Request
			for i, s := range tt.sizes {
				priority := 0
				if tt.urgent > 0 && i == tt.urgent {
					priority = 1
				}
				requests = append(requests, scheduler.Request{Shape: w.register(t, size("web", priority, s)), ID: fmt.Sprint(i)})
			}
			got := scheduler.ScheduleBatch(w.Cluster, requests)
			homes := make([]string, len(got.Placements))
			for i, p := range got.Placements {
				r, ok := w.Replica(p)
				if homes[i] = r.Node; !ok {
					homes[i] = "-"
				}
			}
			got.Placements = nil
			if text := strings.Join(homes, " "); text != tt.homes || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q %+v\nwant %q %+v", text, got, tt.homes, tt.want)
			}
		})
	}
}
