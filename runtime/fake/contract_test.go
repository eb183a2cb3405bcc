package fake_test

import (
	"testing"
	"testing/synctest"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/enginetest"
	"github.com/berth-dev/berth/runtime/fake"
)

const testImage = "berth-workload:test"

func TestContract(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Case: func(t *testing.T, run func(*testing.T, enginetest.Engine)) {
			synctest.Test(t, func(t *testing.T) {
				e := fake.New(fake.Options{})
				t.Cleanup(func() { _ = e.Close() })
				e.AddImage(testImage, fake.TestImage())
				run(t, e)
			})
		},
		Image:  testImage,
		Prefix: "fake-",
		Stage: func(_ *testing.T, e enginetest.Engine, id string, s runtime.State) {
			e.(*fake.Engine).SetState(id, s) //nolint:forcetypeassert // it is ours
		},
	})
}
