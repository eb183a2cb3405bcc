package health

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// startGRPC serves on the loopback until the test ends.
func startGRPC(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// slowHealth answers after its caller has gone.
type slowHealth struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (slowHealth) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestGRPCAgainstARealServer(t *testing.T) {
	checkLeaks(t)
	hs := grpchealth.NewServer()
	hs.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	hs.SetServingStatus(strings.Repeat("long.", 100), grpc_health_v1.HealthCheckResponse_SERVING)
	serving := startGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, hs) })
	without := startGRPC(t, func(*grpc.Server) {})
	hangs := startGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, slowHealth{}) })
	for name, c := range map[string]struct {
		address, service string
		outcome          Outcome
		text             string
	}{
		"the server":         {serving, "", Success, "SERVING"},
		"a service":          {serving, strings.Repeat("long.", 100), Success, "SERVING"},
		"not serving":        {serving, "down", Failure, "NOT_SERVING"},
		"unknown service":    {serving, "nope", Failure, "the server does not know the service"},
		"no health protocol": {without, "", Failure, "the server does not implement grpc.health.v1.Health"},
		"hanging":            {hangs, "", Failure, "timed out after 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			check := networkCheck(Probe{GRPC: &GRPC{Service: c.service}}, c.address)
			began := time.Now()
			outcome, text := check(t.Context())
			if outcome != c.outcome || text != c.text {
				t.Errorf("%q %q, want %q %q", outcome, text, c.outcome, c.text)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
