package reconcile

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Panic is the panic of a goroutine, handed on to the one that waits for it.
type Panic struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

// String is the panic's value as text.
func (p *Panic) String() string { return fmt.Sprint(p.Value) }

// sideBySide calls do with 0 to n-1, at most limit at a time, waits for all of
// them and returns the error of the lowest number. A panic in one of them is the
// caller's, as a *Panic, so that whoever guards the caller guards them too.
func sideBySide(n, limit int, do func(i int) error) error {
	errs := make([]error, n)
	panics := make([]*Panic, n)
	places := make(chan struct{}, max(limit, 1))
	var wg sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panics[i] = &Panic{Value: p, Stack: debug.Stack()}
				}
				<-places
			}()
			errs[i] = do(i)
		})
	}
	wg.Wait()
	for i := range n {
		if panics[i] != nil {
			panic(panics[i])
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
