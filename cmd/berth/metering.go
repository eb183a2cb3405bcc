package main

import (
	"context"

	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/internal/meter"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/usage"
)

// metering measures containers for the autoscaler, by the ways of probes.
type metering struct {
	*usage.Reader
	values meter.Meter
}

func newMetering(engine *docker.Engine, p *prober) *metering {
	return &metering{
		Reader: usage.New(usage.Config{Engine: engine}),
		values: meter.Meter{Exec: p, Helper: p.dial},
	}
}

// Value asks for a value as [daemon.Meter] says.
func (m *metering) Value(ctx context.Context, src *stack.MetricSource, at *daemon.Metered) (int64, error) {
	var where meter.At
	if at != nil {
		where = meter.At{Container: at.Container.ID, Route: at.Route}
	}
	return m.values.Value(ctx, src, where)
}
