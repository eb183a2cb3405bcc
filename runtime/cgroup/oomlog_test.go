package cgroup

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/runtime"
)

func oomRecord(limited, group string) string {
	return fmt.Sprintf("6,912,2353262317,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=b59b,mems_allowed=0,oom_memcg=%s,task_memcg=%s,task=workload,pid=28579,uid=0\n SUBSYSTEM=memory\n", limited, group)
}

func TestParseOOM(t *testing.T) {
	for name, c := range map[string]struct {
		record string
		want   victim
		ok     bool
	}{
		"node":    {oomRecord("/berth/o/a.node", "/berth/o/a.node/c1"), victim{"/berth/o/a.node", "/berth/o/a.node/c1"}, true},
		"escaped": {oomRecord(`/berth.slice/berth-o-a\x5cx2d1.slice`, `/berth.slice/berth-o-a\x5cx2d1.slice/docker-c1.scope`), victim{`/berth.slice/berth-o-a\x2d1.slice`, `/berth.slice/berth-o-a\x2d1.slice/docker-c1.scope`}, true},
		"machine": {"6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/berth/o/a.node/c1,task=x,pid=1,uid=0\n", victim{"", "/berth/o/a.node/c1"}, true},
		"other":   {"6,911,2353262300,-;Memory cgroup out of memory: Killed process 28579 (workload)\n", victim{}, false},
		"forged":  {"12,1,2,-;someone writes oom-kill:constraint=X,oom_memcg=/a,task_memcg=/a/b,task=x\n", victim{}, false},
		"cut":     {"6,1,2,-;oom-kill:constraint=X,oom_memcg=/a\n", victim{}, false},
		"empty":   {"", victim{}, false},
	} {
		got, ok := parseOOM(c.record)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
}

// script is a kernel's log of a test.
type script struct{ records []string }

func (s *script) next(b []byte) (int, error) {
	if len(s.records) == 0 {
		return 0, syscall.EAGAIN
	}
	r := s.records[0]
	s.records = s.records[1:]
	if r == "" {
		return 0, syscall.EPIPE // overwritten
	}
	return copy(b, r), nil
}

// The log names the container that is gone, and whose limit it was; what it tells
// once is remembered, and a record that is lost ends nothing.
func TestOOMLogNamesContainers(t *testing.T) {
	const rel = "berth/01234567/a.node"
	node := "/" + rel
	s := &script{records: []string{
		oomRecord(node, node+"/c1"),
		"",
		oomRecord(node+"/c2", node+"/c2"),
		oomRecord(node+"/c2", node+"/c2/inner"),
		oomRecord("/outer"+node, "/outer"+node+"/docker-c3.scope"), // seen from inside a namespace
		oomRecord("/berth/01234567/aa.node", "/berth/01234567/aa.node/c9"),
		oomRecord("/docker/c8", "/docker/c8"),
	}}
	log := newOOMLog(s.next)
	p := runtime.Pressure{OOMKills: 1, Containers: []runtime.ContainerPressure{{ID: "c2", Pids: 3, OOMKills: 1}}}
	log.addTo(&p, rel)
	s.records = append(s.records, oomRecord(node, node+"/c1"))
	log.addTo(&p, rel)
	want := runtime.Pressure{OOMKills: 5, NodeOOMs: 3, Containers: []runtime.ContainerPressure{
		{ID: "c1", Gone: true, OOMKills: 2, NodeOOMs: 2},
		{ID: "c2", Pids: 3, OOMKills: 2},
		{ID: "c3", Gone: true, OOMKills: 1, NodeOOMs: 1},
	}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	if all, byNode := p.OOMKilled("c1"); all != 2 || byNode != 2 {
		t.Errorf("c1: %d, %d", all, byNode)
	}
	if all, _ := p.OOMKilled("c7"); all != 0 {
		t.Errorf("c7: %d", all)
	}
}

func TestOOMLogIsBounded(t *testing.T) {
	s := &script{}
	for i := range maxVictims + 10 {
		s.records = append(s.records, oomRecord("/berth/o/a.node", fmt.Sprintf("/berth/o/a.node/c%d", i)))
	}
	log := newOOMLog(s.next)
	var p runtime.Pressure
	log.addTo(&p, "berth/o/a.node")
	if len(log.count) != maxVictims || len(log.order) != maxVictims || len(p.Containers) != maxVictims {
		t.Errorf("%d and %d remembered, %d told", len(log.count), len(log.order), len(p.Containers))
	}
	for _, c := range p.Containers {
		if c.ID == "c0" {
			t.Error("the oldest is kept")
		}
	}
}

func FuzzParseOOM(f *testing.F) {
	f.Add(oomRecord("/berth/o/a.node", "/berth/o/a.node/c1"))
	f.Add(`6,1,2,-;oom-kill:,task_memcg=\x5c,task=`)
	f.Fuzz(func(t *testing.T, record string) {
		if v, ok := parseOOM(record); ok && !strings.Contains(record, "oom-kill:") {
			t.Errorf("%q is taken for a kill of %+v", record, v)
		}
	})
}
