package docker

import (
	"testing"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/enginetest"
)

var _ enginetest.Engine = (*Engine)(nil)

func TestContract(t *testing.T) {
	e := open(t)
	enginetest.Run(t, enginetest.Harness{
		Case: func(t *testing.T, run func(*testing.T, enginetest.Engine)) {
			t.Helper()
			run(t, e)
		},
		Image:    testimage.Ensure(t, e),
		Prefix:   "berthcontract-",
		Parallel: true,
		NotStaged: map[runtime.State]string{
			runtime.Removing: "the engine passes through it within milliseconds",
			runtime.Dead:     "only a failing storage driver leaves a container in it",
		},
	})
}
