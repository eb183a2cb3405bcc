package stack_test

import (
	"testing"

	"github.com/berth-dev/berth/internal/stack"
)

// plain is an ordinary project of a handful of services.
const plain = `
services:
  web:
    image: nginx:1.25
    ports: ["8080:80"]
    environment: {A: b, C: d}
    depends_on: {db: {condition: service_healthy}}
    deploy: {resources: {limits: {cpus: "0.5", memory: 64M}}}
  db:
    image: postgres:16
    volumes: [data:/var/lib/postgresql/data]
    healthcheck: {test: [CMD, pg_isready], interval: 2s}
  worker1: {image: a, command: [sh, -c, "sleep 1"], networks: [a, b]}
  worker2: {image: a, command: [sh, -c, "sleep 1"], networks: [a, b]}
  worker3: {image: a, command: [sh, -c, "sleep 1"], networks: [a, b]}
networks: {a: {}, b: {}}
volumes: {data: {}}
`

func BenchmarkLoad(b *testing.B) {
	dir := project(b, map[string]string{"compose.yaml": plain})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := stack.Load(b.Context(), stack.LoadOptions{WorkingDir: dir}); err != nil {
			b.Fatal(err)
		}
	}
}
