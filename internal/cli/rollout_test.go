package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

// rolloutBench is a command line with a stack of three services.
func rolloutBench(t *testing.T) *bench {
	t.Helper()
	return newBench(t, "name: shop\nservices:\n  api: {image: app}\n  db: {image: app}\n  web: {image: app}\n")
}

// manyRollouts stand in all the ways there are.
func manyRollouts() *api.Rollouts {
	at := noon()
	slots := func(done, failed int) map[int]reconcile.SlotProgress {
		m := map[int]reconcile.SlotProgress{}
		for i := 1; i <= done; i++ {
			m[i] = reconcile.SlotProgress{Done: at}
		}
		for i := done + 1; i <= done+failed; i++ {
			m[i] = reconcile.SlotProgress{Failed: "exited with 1"}
		}
		return m
	}
	rollout := func(state reconcile.RolloutState, done, failed int) *reconcile.Rollout {
		return &reconcile.Rollout{State: state, From: "old", Total: 4, Began: at, Progress: at.Add(time.Second), Slots: slots(done, failed)}
	}
	canary := rollout(reconcile.RolloutUpdating, 1, 0)
	canary.Reached = at
	paused := rollout(reconcile.RolloutPaused, 1, 1)
	paused.Why = "1 of 4 replicas failed: shop-web-2: exited with 1"
	back := rollout(reconcile.RolloutCompleted, 4, 0)
	back.RollBack = true
	const revision = "0123456789abcdef0123456789abcdef"
	return &api.Rollouts{Revision: 5, Services: []api.RolloutStatus{
		{Service: "api", Revision: revision, Replicas: 4, Rollout: canary, CanarySteps: 2, CanaryHold: time.Minute},
		{Service: "db", Revision: revision, Replicas: 1},
		{Service: "held", Revision: revision, Replicas: 4, Rollout: rollout(reconcile.RolloutUpdating, 2, 0), Held: true},
		{Service: "old", Revision: revision, Replicas: 4, Rollout: back, RolledBack: &reconcile.RolledBack{From: "bad", Why: "3 of 4 replicas failed"}},
		{Service: "steps", Revision: revision, Replicas: 4, Rollout: canary, CanarySteps: 2},
		{Service: "web", Revision: revision, Replicas: 4, Rollout: paused, Holds: []string{"shop-web-3: the rollout is paused"}},
	}}
}

func TestRolloutStatusTellsAll(t *testing.T) {
	text, err := rolloutText(rolloutRows(manyRollouts().Services), "table", noon().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "rollout-status.txt", text)
}

func TestRolloutStatusJSON(t *testing.T) {
	b := rolloutBench(t)
	b.daemon.stages = []*api.Rollouts{manyRollouts()}
	if code := b.run("rollout", "status", "--format", "json", "web", "api"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var got []rolloutRow
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Service != "web" || got[0].State != "paused" || got[0].Failed != 1 || got[0].Slots[2] != "failed: exited with 1" {
		t.Errorf("got %+v", got)
	}
	if c := got[1].Canary; c == nil || c.Step != 1 || c.Steps != 2 || !c.Until.Equal(noon().Add(time.Minute)) {
		t.Errorf("the canary is %+v", c)
	}
}

func TestRolloutErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status", "nothing"}, "berth: no such service: nothing in stack shop (it has api, db, held, old, steps, web)\n"},
		{[]string{"pause", "web", "nothing"}, "berth: no such service: nothing in stack shop (it has api, db, held, old, steps, web)\n"},
		{[]string{"status", "--format", "yaml"}, "berth: rollout status: --format \"yaml\" is unknown; use table or json\n"},
		{[]string{"undo", "--to", "latest"}, "berth: rollout undo: \"latest\" is not the number of a revision; berth rollout history lists them\n"},
		{[]string{"undo", "--to", "0"}, "berth: rollout undo: \"0\" is not the number of a revision; berth rollout history lists them\n"},
		{[]string{"undo", "--to", "9"}, "berth: find shop: revision 9 is not kept; there are 1 to 5\n"},
		{[]string{"undo", "-d", "--wait"}, "berth: rollout undo: --detach and --wait are incompatible\n"},
		{[]string{"diff", "x"}, "berth: rollout diff: \"x\" is not the number of a revision; berth rollout history lists them\n"},
		{[]string{"diff", "7", "1"}, "berth: find shop: revision 7 is not kept; there are 1 to 0\n"},
		{[]string{"restart"}, "berth: rollout: unknown command \"restart\"; see berth rollout --help\n"},
	} {
		b := rolloutBench(t)
		b.daemon.stages = []*api.Rollouts{manyRollouts()}
		if code := b.run(append([]string{"rollout"}, c.args...)...); code != 1 {
			t.Errorf("%v: exit code %d, want 1", c.args, code)
		}
		if got := b.err.String(); got != c.want {
			t.Errorf("%v: standard error %q, want %q", c.args, got, c.want)
		}
		if len(b.daemon.changes) > 0 {
			t.Errorf("%v: changed all the same: %q", c.args, b.daemon.changes)
		}
	}
}

func TestRolloutOfAnUnknownStack(t *testing.T) {
	b := rolloutBench(t)
	if code := b.run("rollout", "status", "--watch"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantInErr("berth: find shop: no such stack; berth ls shows those there are\n")
}

// stage is a rollout of web that has come so far.
func stage(state reconcile.RolloutState, why string, done int) *api.Rollouts {
	r := &reconcile.Rollout{State: state, Why: why, Total: 2, Began: noon(), Progress: noon(), Slots: map[int]reconcile.SlotProgress{}}
	for i := 1; i <= done; i++ {
		r.Slots[i] = reconcile.SlotProgress{Done: noon()}
	}
	return &api.Rollouts{Services: []api.RolloutStatus{{Service: "web", Revision: "abc", Replicas: 2, Rollout: r}}}
}

func TestRolloutWatchShowsChangesUntilTheEnd(t *testing.T) {
	const updating, completed, paused = reconcile.RolloutUpdating, reconcile.RolloutCompleted, reconcile.RolloutPaused
	for _, c := range []struct {
		name   string
		stages []*api.Rollouts
		states string
		code   int
		err    string
	}{
		{"a good one", []*api.Rollouts{stage(updating, "", 0), stage(updating, "", 1), stage(updating, "", 1), stage(completed, "", 2)}, "updating 0,updating 1,completed 2", 0, ""},
		{"a bad one", []*api.Rollouts{stage(updating, "", 0), stage(paused, "1 of 2 replicas failed", 0)}, "updating 0,paused 0", 1, "berth: service web: paused: 1 of 2 replicas failed\n"},
		{"none", []*api.Rollouts{stage(completed, "", 2)}, "completed 2", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := rolloutBench(t)
				b.daemon.stages = c.stages
				if code := b.run("rollout", "status", "-w", "--format", "json"); code != c.code {
					t.Errorf("exit code %d, want %d: %s", code, c.code, b.err.String())
				}
				if got := shownStates(t, b.out.String()); got != c.states {
					t.Errorf("showed %s, want %s", got, c.states)
				}
				if got := b.err.String(); got != c.err {
					t.Errorf("standard error %q, want %q", got, c.err)
				}
			})
		})
	}
}

// shownStates sums up lines of JSON: "updating 0,completed 2".
func shownStates(t *testing.T, lines string) string {
	t.Helper()
	var states []string
	for line := range strings.Lines(lines) {
		var rows []rolloutRow
		if err := json.Unmarshal([]byte(line), &rows); err != nil {
			t.Fatal(err)
		}
		states = append(states, fmt.Sprintf("%s %d", rows[0].State, rows[0].Replaced))
	}
	return strings.Join(states, ",")
}

func TestRolloutControls(t *testing.T) {
	b := rolloutBench(t)
	b.daemon.stages = []*api.Rollouts{stage(reconcile.RolloutUpdating, "", 1)}
	for _, args := range [][]string{{"pause"}, {"resume", "web"}} {
		if code := b.run(append([]string{"--progress", "plain", "rollout"}, args...)...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, b.err.String())
		}
	}
	if diff := cmp.Diff([]string{"pause ", "resume web"}, b.daemon.changes); diff != "" {
		t.Error(diff)
	}
	if got, want := b.err.String(), " Service web  Paused\n Service web  Resumed\n"; got != want {
		t.Errorf("standard error %q, want %q", got, want)
	}
	if code := b.run("--dry-run", "rollout", "pause", "web"); code != 0 || len(b.daemon.changes) != 2 {
		t.Errorf("a dry run: exit code %d, changed %q", code, b.daemon.changes)
	}
	b.wantOut("pause          web          (its rollout is updating)\n")
}

func TestRolloutUndoFollows(t *testing.T) {
	for _, c := range []struct {
		args  []string
		asked string
		until string
	}{
		{nil, "undo 0 ", untilSettled},
		{[]string{"--to", "3", "web"}, "undo 3 web", untilSettled},
		{[]string{"--wait"}, "undo 0 ", untilReady},
		{[]string{"-d"}, "undo 0 ", ""},
	} {
		b := rolloutBench(t)
		if code := b.run(append([]string{"rollout", "undo"}, c.args...)...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", c.args, code, b.err.String())
		}
		if got := strings.Join(b.daemon.changes, ";"); got != c.asked {
			t.Errorf("%v: asked for %q, want %q", c.args, got, c.asked)
		}
		if got := strings.Join(b.daemon.untils, ";"); got != c.until {
			t.Errorf("%v: followed until %q, want %q", c.args, got, c.until)
		}
	}
	b := rolloutBench(t)
	b.daemon.failed = []string{"start shop-web-2: no space left on device"}
	if code := b.run("rollout", "undo"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantInErr("berth: start shop-web-2: no space left on device\n")
	b = rolloutBench(t)
	b.daemon.undone = &reconcile.Plan{Stack: "shop", Steps: []reconcile.Step{{Op: reconcile.OpCreate, Key: "web/1", Name: "shop-web-1", Cause: "changed: image"}}}
	if code := b.run("--dry-run", "rollout", "undo"); code != 0 || len(b.daemon.changes) > 0 {
		t.Errorf("a dry run: exit code %d, changed %q", code, b.daemon.changes)
	}
	b.wantInOut("create         web/1 ")
}

func TestRolloutHistory(t *testing.T) {
	b := rolloutBench(t)
	changes := func(paths ...string) []reconcile.Change {
		list := make([]reconcile.Change, len(paths))
		for i, p := range paths {
			list[i].Path = p
		}
		return list
	}
	b.daemon.revisions = []api.Revision{
		{Number: 3, At: time.Now(), Changes: changes("services.web")},
		{Number: 4, At: time.Now(), Changes: changes("a", "b", "c", "d", "e")},
		{Number: 5, At: time.Now(), Cause: "undo to 3"},
	}
	if code := b.run("rollout", "history"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var lines []string
	for line := range strings.Lines(b.out.String()) {
		words := strings.Fields(line)
		lines = append(lines, strings.Join(append(words[:1:1], words[2:]...), " "))
	}
	want := []string{"REVISION CAUSE CHANGES", "3 up (the oldest that is kept)", "4 up a, b, c and 2 more", "5 undo to 3 none"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b = rolloutBench(t)
	b.daemon.revisions = []api.Revision{{Number: 1}}
	if code := b.run("rollout", "history", "--format", "json"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantInOut(`[{"number":1,`)
}

func TestRolloutDiff(t *testing.T) {
	diffs := []api.RevisionDiff{
		{From: 1, To: 2, Changes: []reconcile.Change{
			{Path: "services.web.env.TOKEN", Hidden: true},
			{Path: "services.web.image", Before: "app:1", After: "app:2"},
			{Path: "services.web.replicas", After: "3"},
			{Path: "volumes.data", Before: "declared"},
		}},
		{From: 1, To: 1},
	}
	text := "--- revision 1\n+++ revision 2\n~ services.web.env.TOKEN: differs\n- services.web.image: app:1\n+ services.web.image: app:2\n" +
		"+ services.web.replicas: 3\n- volumes.data: declared\n"
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, text},
		{[]string{"1"}, text},
		{[]string{"1", "2"}, text},
		{[]string{"1", "1"}, "revisions 1 and 1 do not differ\n"},
	} {
		b := rolloutBench(t)
		b.daemon.diffs = diffs
		if code := b.run(append([]string{"rollout", "diff"}, c.args...)...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", c.args, code, b.err.String())
		}
		b.wantOut(c.want)
	}
	b := rolloutBench(t)
	b.daemon.diffs = diffs
	if code := b.run("rollout", "diff", "--format", "json"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var got api.RevisionDiff
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(diffs[0], got); diff != "" {
		t.Error(diff)
	}
}

func TestUpAtomic(t *testing.T) {
	b := rolloutBench(t)
	if code := b.run("up", "-d", "--atomic"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	if len(b.daemon.ups) != 1 || !b.daemon.ups[0].Atomic {
		t.Errorf("asked for %+v", b.daemon.ups)
	}
	if code := b.run("up", "-d"); code != 0 || b.daemon.ups[1].Atomic {
		t.Errorf("exit code %d, an up without the flag is atomic", code)
	}
	if code := b.run("up", "--atomic", "--no-start"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantInErr("--atomic and --no-start are incompatible")
}

func TestProgressOfARollout(t *testing.T) {
	change := func(state reconcile.RolloutState, done, failed int, why string) *api.RolloutChange {
		return &api.RolloutChange{Service: "web", State: state, Done: done, Failed: failed, Total: 3, Why: why}
	}
	back := func(c *api.RolloutChange) *api.RolloutChange { c.Back = true; return c }
	fresh := func(c *api.RolloutChange) *api.RolloutChange { c.New = true; return c }
	for _, c := range []struct {
		r    *api.RolloutChange
		want string
	}{
		{change(reconcile.RolloutUpdating, 1, 0, ""), " Service web  Updating 1/3\n"},
		{change(reconcile.RolloutUpdating, 1, 1, ""), " Service web  Updating 1/3, 1 failed\n"},
		{change(reconcile.RolloutUpdating, 3, 0, ""), " Service web  Updated 3/3\n"},
		{change(reconcile.RolloutCompleted, 3, 0, ""), " Service web  Updated 3/3\n"},
		{change(reconcile.RolloutPaused, 1, 1, "it failed"), " Service web  Paused 1/3, 1 failed  it failed\n"},
		{change(reconcile.RolloutRolledBack, 1, 1, "it failed"), " Service web  Rolling back  it failed\n"},
		{back(change(reconcile.RolloutUpdating, 1, 0, "")), " Service web  Rolling back 1/3\n"},
		{back(change(reconcile.RolloutCompleted, 3, 0, "")), " Service web  Rolled back 3/3\n"},
		{fresh(change(reconcile.RolloutUpdating, 1, 0, "")), ""},
		{fresh(change(reconcile.RolloutPaused, 1, 1, "it failed")), " Service web  Paused 1/3, 1 failed  it failed\n"},
	} {
		var out strings.Builder
		showEvent(&plainProgress{w: &out, last: map[string]string{}}, api.Event{Type: api.EventRollout, Rollout: c.r})
		if out.String() != c.want {
			t.Errorf("%+v shows %q, want %q", c.r, out.String(), c.want)
		}
	}
	var out strings.Builder
	p := &plainProgress{w: &out, last: map[string]string{}}
	for _, h := range []*reconcile.Hold{
		{Kind: reconcile.HoldFailing, Key: "rollout/web", Name: "web", Reason: "rolled back: 1 of 3 replicas failed"},
		{Kind: reconcile.HoldFailing, Key: "port/web", Name: "web", Reason: "port 80 cannot be listened at"},
	} {
		showEvent(p, api.Event{Type: api.EventHold, Hold: h})
	}
	if got, want := out.String(), " Service web  Rolled back  1 of 3 replicas failed\n Service web  Error  port 80 cannot be listened at\n"; got != want {
		t.Errorf("shows %q, want %q", got, want)
	}
}

func TestEventsOfARollout(t *testing.T) {
	at := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	e := &api.Event{Time: at, Type: api.EventRollout, Rollout: &api.RolloutChange{Service: "web", State: reconcile.RolloutPaused, Why: "it failed", Done: 1, Failed: 1, Total: 3}}
	b := rolloutBench(t)
	a := &app{env: &Env{Out: &b.out}}
	for _, asJSON := range []bool{false, true} {
		if err := a.printDaemonEvent(e, []string{"web"}, asJSON); err != nil {
			t.Fatal(err)
		}
	}
	e.Rollout = &api.RolloutChange{Service: "web", State: reconcile.RolloutUpdating, Back: true, Step: 2, Total: 3}
	if err := a.printDaemonEvent(e, nil, false); err != nil {
		t.Fatal(err)
	}
	if err := a.printDaemonEvent(e, []string{"db"}, false); err != nil {
		t.Fatal(err)
	}
	b.wantOut("2026-01-02 10:00:00.000000 berth rollout paused rollout/web (done=1, failed=1, name=web, total=3, why=it failed)\n" +
		`{"action":"rollout paused","attributes":{"done":"1","failed":"1","name":"web","total":"3","why":"it failed"},"id":"rollout/web","service":"web","time":"2026-01-02T10:00:00Z","type":"berth"}` + "\n" +
		"2026-01-02 10:00:00.000000 berth rollout rolling back rollout/web (canary-steps=2, done=0, failed=0, name=web, total=3)\n")
}
