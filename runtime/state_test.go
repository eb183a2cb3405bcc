package runtime_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

var update = flag.Bool("update", false, "write the generated documentation")

// measured is what Docker Engine 20.10.24 was seen to do, written down apart
// from the table so that the two check each other. "!" marks a refusal.
const measured = `
            create     start       stop       kill      restart  pause      unpause    update      remove
created     !conflict  running     created    !conflict running  !conflict  !invalid   created     removed
running     !conflict  running     exited     exited    running  paused     !invalid   running     !conflict
paused      !conflict  !conflict   exited     exited    !conflict !conflict running    paused      !conflict
restarting  !conflict  restarting  exited     exited    running  !conflict  !invalid   restarting  !conflict
exited      !conflict  running     exited     !conflict running  !conflict  !invalid   exited      removed
removed     created    !not-found  !not-found !not-found !not-found !not-found !not-found !not-found !not-found
`

func TestTransitionsAsMeasured(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(measured), "\n")
	ops := strings.Fields(lines[0])
	if len(ops) != len(runtime.Ops()) {
		t.Fatalf("%d operations were measured, there are %d", len(ops), len(runtime.Ops()))
	}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, want := range cells[1:] {
			from, op := runtime.State(cells[0]), runtime.Op(ops[i])
			o := runtime.Transition(from, op)
			got := string(o.To)
			if !o.OK() {
				got = "!" + strings.ReplaceAll(string(o.Kind), " ", "-")
			}
			if got != want {
				t.Errorf("%s a container in state %s: table says %s, measured was %s", op, from, got, want)
			}
		}
	}
}

func TestTransitionTableIsWhole(t *testing.T) {
	n, reached := 0, map[runtime.State]bool{}
	for cell, o := range runtime.Transitions() {
		n++
		switch {
		case o.OK() && !o.To.Valid():
			t.Errorf("%s from %s leads to the unknown state %q", cell.Op, cell.From, o.To)
		case !o.OK() && o.To != "":
			t.Errorf("%s from %s is refused and leads to %s", cell.Op, cell.From, o.To)
		}
		reached[o.To] = true
	}
	if want := len(runtime.States()) * len(runtime.Ops()); n != want {
		t.Errorf("%d cells, want %d", n, want)
	}
	// These two come about inside the engine only.
	for _, s := range runtime.States() {
		if !reached[s] && s != runtime.Removing && s != runtime.Dead {
			t.Errorf("no operation leads to %s", s)
		}
	}
}

func TestTransitionOfTheUnknown(t *testing.T) {
	for _, o := range []runtime.Outcome{runtime.Transition("nowhere", runtime.OpStart), runtime.Transition(runtime.Running, "dance")} {
		if o.Kind != runtime.KindInvalid {
			t.Errorf("got %+v, want invalid", o)
		}
	}
	if runtime.State("nowhere").Valid() {
		t.Error("an unknown state is valid")
	}
}

func TestTransitionsCanBeLeftEarly(t *testing.T) {
	n := 0
	for range runtime.Transitions() {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("left after %d cells", n)
	}
}

func TestCheckTransitionExplains(t *testing.T) {
	if err := runtime.CheckTransition("shop-web-1", runtime.Created, runtime.OpStart); err != nil {
		t.Error(err)
	}
	err := runtime.CheckTransition("shop-web-1", runtime.Created, runtime.OpPause)
	if !runtime.IsConflict(err) || err.Error() != "pause shop-web-1: not possible while the container is created" {
		t.Errorf("got %v", err)
	}
}

func TestAlive(t *testing.T) {
	alive := map[runtime.State]bool{runtime.Running: true, runtime.Paused: true, runtime.Restarting: true}
	for _, s := range runtime.States() {
		if s.Alive() != alive[s] {
			t.Errorf("%s: alive is %t", s, s.Alive())
		}
	}
}

// TestLifecycleDocument keeps docs/lifecycle.md as the table has it; with
// -update it is written anew.
func TestLifecycleDocument(t *testing.T) {
	const path = "../docs/lifecycle.md"
	want := lifecycleDocument()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the transition table says; run: go test ./runtime -run TestLifecycleDocument -update", path)
	}
}

func lifecycleDocument() string {
	var b strings.Builder
	b.WriteString(`# A container's lifecycle

Generated from the transition table in runtime/state.go; ` + "`go test ./runtime -run TestLifecycleDocument -update`" + ` writes it anew.

The planner, the engine in memory, the contract suite and this page are all fed
from that one table. The suite checks each cell against real Docker, except for
the states removing and dead, which no call reaches there.

## What moves a container

` + "```mermaid\nstateDiagram-v2\n    [*] --> created: create\n")
	for _, from := range runtime.States() {
		for _, to := range runtime.States() {
			if from == runtime.Removed {
				continue
			}
			if ops := leading(from, to); from != to && len(ops) > 0 {
				target := string(to)
				if to == runtime.Removed {
					target = "[*]"
				}
				fmt.Fprintf(&b, "    %s --> %s: %s\n", from, target, strings.Join(ops, ", "))
			}
		}
	}
	b.WriteString("    running --> exited: (the process ends)\n    running --> restarting: (it ends, the engine's policy restarts it)\n" +
		"    restarting --> running: (the policy's delay is over)\n```\n\n" +
		"In brackets: what happens by itself.\n\n## Every operation in every state\n\n| from \\ op |")
	for _, op := range runtime.Ops() {
		fmt.Fprintf(&b, " %s |", op)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(runtime.Ops())) + "\n")
	for _, from := range runtime.States() {
		fmt.Fprintf(&b, "| **%s** |", from)
		for _, op := range runtime.Ops() {
			fmt.Fprintf(&b, " %s |", cellText(from, op))
		}
		b.WriteString("\n")
	}
	b.WriteString(`
- → state: legal, and where it leads; stays: legal, and changes no state.
- *conflict*: the state forbids it; look again. *invalid*: it can never succeed
  in this state and is not sent to the engine. *not found*: there is no container.
- A start in state restarting does nothing: the engine's restart policy goes on
  waiting. A stop or a kill ends that waiting for good.
- Remove is meant without force; with it a live container is killed first.
- A paused container's healthcheck does not run, and the engine reports it as
  unhealthy until the first check after it goes on.
`)
	return b.String()
}

func leading(from, to runtime.State) []string {
	var ops []string
	for _, op := range runtime.Ops() {
		if o := runtime.Transition(from, op); o.OK() && o.To == to {
			ops = append(ops, string(op))
		}
	}
	return ops
}

func cellText(from runtime.State, op runtime.Op) string {
	switch o := runtime.Transition(from, op); {
	case !o.OK():
		return "*" + string(o.Kind) + "*"
	case o.To == from:
		return "stays"
	default:
		return "→ " + string(o.To)
	}
}
