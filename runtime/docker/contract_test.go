package docker

import "github.com/berth-dev/berth/runtime/enginetest"

var _ enginetest.Engine = (*Engine)(nil)
