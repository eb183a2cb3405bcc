package reconcile

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

func TestSideBySide(t *testing.T) {
	for _, limit := range []int{0, 1, 3, 10} {
		t.Run(fmt.Sprint("limit ", limit), func(t *testing.T) {
			var now, most, calls atomic.Int64
			err := sideBySide(10, limit, func(i int) error {
				n := now.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				calls.Add(1)
				now.Add(-1)
				if i == 4 || i == 7 {
					return fmt.Errorf("call %d", i)
				}
				return nil
			})
			if err == nil || err.Error() != "call 4" {
				t.Errorf("error %v, want that of the lowest number", err)
			}
			if calls.Load() != 10 || most.Load() > int64(max(limit, 1)) {
				t.Errorf("%d calls, %d at a time; want 10, at most %d", calls.Load(), most.Load(), max(limit, 1))
			}
		})
	}
}

func TestSideBySidePanicIsTheCallers(t *testing.T) {
	defer func() {
		p, ok := recover().(*Panic)
		if !ok || p.String() != "a mistake" || !strings.Contains(string(p.Stack), "makeMistake") {
			t.Errorf("recovered %v", p)
		}
	}()
	err := sideBySide(5, 2, func(i int) error {
		if i == 4 {
			makeMistake()
		}
		return errors.New("an error")
	})
	t.Errorf("no panic, error %v", err)
}

func makeMistake() { panic("a mistake") }
